"""What a person sees of a measurement: a table, bars in the terminal, and a plot in a file."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import orjson
from rich.console import Console
from rich.table import Table

from foretell.bench.figures import PERCENTILES, Figures
from foretell.bench.session import Report, Wanted, bench
from foretell.bench.sweep import Step, Sweep
from foretell.errors import Setup
from foretell.plugins import needs_extra

BAR = 30
WIDTH_WHEN_PIPED = 160
PLOTS = (".png", ".svg", ".pdf")


def run_and_show(wanted: Wanted, plot: Path | None, *, as_json: bool) -> bool:
    """Measure, print, draw; whether the figures are to be relied on. Raises ForetellError."""
    if plot is not None:
        check_plot(plot)
    report = bench(wanted, show_step)
    if as_json:
        sys.stdout.write(orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        show(report, _console(sys.stdout))
    if plot is not None:
        draw(report, plot)
    return not report.problem


def _console(file: TextIO) -> Console:
    return Console(file=file, highlight=False, width=None if file.isatty() else WIDTH_WHEN_PIPED)


def show_step(step: Step) -> None:
    """One line as a step of a sweep ends; on standard error, so that what is piped stays clean."""
    told = step.problem or "good"
    _console(sys.stderr).print(f"  {step.rate:10,.1f} requests/s  p99 {_ms(step.figures.latency_s['p99'])}  {told}")


def show(report: Report, console: Console) -> None:
    """The report as tables."""
    if report.sweep is not None:
        _show_sweep(report.sweep, console)
    if report.verdict is not None:
        verdict = report.verdict
        value = f"{verdict.value:,.0f}" if verdict.value >= 1000 else f"{verdict.value:,.2f}"
        console.print(f"\n[bold]{verdict.scenario}[/bold]: {value} {verdict.unit} ({verdict.metric})")
    if report.figures is not None:
        _show_figures(report.figures, console)
    if report.problem:
        console.print(f"\n[bold red]not to be relied on[/bold red]: {report.problem}")


def _show_figures(figures: Figures, console: Console) -> None:
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for title in ("latency", "", "95 % interval", ""):
        table.add_column(title, justify="left" if title == "latency" else "right")
    most = max((figures.latency_s[name] for name in PERCENTILES), default=0.0) or 1.0
    for name in PERCENTILES:
        low, high = figures.intervals.get(name, (None, None))
        shown = f"{_ms(low)} to {_ms(high)}" if low is not None and high is not None else "too few requests"
        value = figures.latency_s[name]
        bar = "█" * max(round(BAR * value / most), 1) if value == value else ""  # noqa: PLR0124 - not for NaN
        table.add_row(name, _ms(value), shown, bar)
    console.print(table)
    console.print(
        f"\n  {figures.rate:,.1f} good answers/s in {figures.seconds:.1f} s; {figures.good:,} of {figures.sent:,} requests were"
        f" answered well; longest {_ms(figures.longest_s)}"
    )
    for outcome, count in sorted(figures.outcomes.items()):
        console.print(f"  [yellow]{outcome}[/yellow]: {count:,} requests")
    console.print(f"  the generator used {figures.cpu:.0%} of a core, and was {_ms(figures.lag_s)} late (p99)", style="dim")


def _show_sweep(sweep: Sweep, console: Console) -> None:
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for title in ("requests/s", "answered/s", "p50", "p99", "", ""):
        table.add_column(title, justify="right" if title else "left")
    for step in sorted(sweep.steps, key=lambda step: step.rate):
        tail = step.figures.latency_s["p99"]
        share = min(tail / sweep.slo_s, 2.0) if tail == tail else 0.0  # noqa: PLR0124 - not for NaN
        bar = f"[{'red' if step.problem else 'green'}]{'█' * max(round(BAR / 2 * share), 1)}[/]"
        cells = (f"{step.rate:,.1f}", f"{step.figures.rate:,.1f}", _ms(step.figures.latency_s["p50"]), _ms(tail))
        table.add_row(*cells, bar, step.problem or ("the knee" if step is sweep.knee else ""))
    console.print(table)
    if sweep.knee is None:
        console.print("\n[bold red]no rate was good[/bold red]: allow more time with --slo-ms")
    else:
        console.print(f"\nthe knee: [bold]{sweep.knee.rate:,.1f} requests/s[/bold] with p99 within {_ms(sweep.slo_s)}")


def check_plot(path: Path) -> None:
    """Refuse before anything is measured. Raises Setup ``wrong_target`` or ``missing_extra``."""
    if path.suffix not in PLOTS:
        raise Setup(
            "wrong_target", f"a plot is written as {', '.join(PLOTS)}, not as {path.suffix or 'a file without suffix'!r}"
        )
    if not path.parent.is_dir():
        raise Setup("wrong_target", f"there is no folder {path.parent} to write the plot into")
    with needs_extra("--plot", "bench"):
        import matplotlib as mpl

        mpl.use("Agg")


def draw(report: Report, path: Path) -> None:
    """A sweep as latency over rate; one load as latency over percentile."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    if report.sweep is not None:
        _draw_sweep(report.sweep, axes)
    elif report.figures is not None:
        _draw_line(axes, report.figures.latency_s.keys(), report.figures.latency_s.values())
    axes.set(ylabel="ms", yscale="log", title=f"foretell bench: {report.model}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(visible=True, which="both", alpha=0.2)
    figure.savefig(path)
    pyplot.close(figure)


def _draw_sweep(sweep: Sweep, axes: object) -> None:
    steps = sorted(sweep.steps, key=lambda step: step.rate)
    for name in ("p50", "p99"):
        _draw_line(axes, [step.rate for step in steps], [step.figures.latency_s[name] for step in steps], name)
    if bad := [(step.rate, step.figures.latency_s["p99"] * 1e3) for step in steps if step.problem]:
        axes.plot(*zip(*bad, strict=True), "rx", markersize=10, label="not good")  # type: ignore[attr-defined]
    axes.axhline(sweep.slo_s * 1e3, color="grey", linestyle="--", label="bound")  # type: ignore[attr-defined]
    if sweep.knee is not None:
        axes.axvline(sweep.knee.rate, color="green", linestyle=":", label="knee")  # type: ignore[attr-defined]
    axes.set(xlabel="requests/s")  # type: ignore[attr-defined]
    axes.legend()  # type: ignore[attr-defined]


def _draw_line(axes: object, x: Iterable[object], y: Iterable[float], label: str | None = None) -> None:
    axes.plot(list(x), [value * 1e3 for value in y], marker="o", label=label)  # type: ignore[attr-defined]


def _ms(seconds: float) -> str:
    """``0.412 ms``, ``57.3 ms``, ``1,204 ms``."""
    value = seconds * 1e3
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.3f} ms"
