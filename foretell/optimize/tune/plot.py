"""Throughput against latency of all that was tried, and energy where it can be measured: tune.png."""

from pathlib import Path
from typing import Any

from foretell.optimize.tune.report import Report
from foretell.optimize.tune.search import Look
from foretell.plugins import needs_extra

LEAST_AREA, MOST_AREA = 20.0, 220.0


def check_plots() -> None:
    """Raises Setup ``missing_extra`` before the long work, rather than after it."""
    with needs_extra("the plot of foretell tune", "bench"):
        import matplotlib as mpl

        mpl.use("Agg")


def draw(report: Report, path: Path) -> None:
    """Each point is a candidate at its best load: its colour the variant, its area the size of the file."""
    from matplotlib import pyplot

    looks = [look for look in report.looks.values() if look.latency_s]
    has_energy = any(look.joules is not None for look in looks)
    figure, panels = pyplot.subplots(
        1, 2 if has_energy else 1, figsize=(13 if has_energy else 8, 5), layout="constrained", squeeze=False
    )
    axes = panels[0][0]
    _draw_latency(report, looks, axes)
    if has_energy:
        _scatter(report, looks, panels[0][1], lambda look: look.joules or float("nan"))
        panels[0][1].set(xlabel="answers/s", ylabel="joules of one answer", yscale="log")
    figure.suptitle(f"foretell tune: {report.model}, {report.objective}")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_latency(report: Report, looks: list[Look], axes: Any) -> None:
    tail = report.objective.percentile
    _scatter(report, looks, axes, lambda look: look.latency_s[tail] * 1e3)
    front = sorted((look.rate, look.latency_s[tail] * 1e3) for look in looks if look.candidate in report.front())
    if front:
        axes.plot(*zip(*front, strict=True), color="grey", linewidth=0.8, zorder=0, label="front")
    axes.axhline(report.objective.bound_s * 1e3, color="grey", linestyle="--", label="bound")
    for candidate, name in ((report.default, "default"), (report.chosen, "chosen")):
        look = report.looks.get(candidate) if candidate else None
        if look is not None and look.latency_s:
            point = (look.rate, look.latency_s[tail] * 1e3)
            axes.annotate(name, point, xytext=(8, 10), textcoords="offset points", arrowprops={"arrowstyle": "-"})
    axes.set(xlabel="answers/s", ylabel=f"{tail}, ms", yscale="log")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize=8)


def _scatter(report: Report, looks: list[Look], axes: Any, y: Any) -> None:
    largest = max((each.size_bytes for each in report.variants), default=1) or 1
    for variant in report.variants:
        own = [look for look in looks if look.candidate.variant == variant.name]
        if not own:
            continue
        area = LEAST_AREA + (MOST_AREA - LEAST_AREA) * variant.size_bytes / largest
        label = f"{variant.name}, {variant.size_bytes / 1e3:,.0f} KB"
        axes.scatter([look.rate for look in own], [y(look) for look in own], s=area, alpha=0.6, label=label)
