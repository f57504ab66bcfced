"""Figures as lines, as Markdown and as plots."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from extras import lines
from measure import Figure
from reach import Found, Reached, mark, median

NOISY_GENERATOR = 0.95

RATIOS = "A ratio is the median of those of each turn, in which all are asked one after the other; in brackets: both medians."


def line(label: str, runs: Sequence[Figure]) -> str:
    """One server's medians, and the spread of its rate."""
    rates = [run.rate for run in runs]
    spread = f"({min(rates):,.0f}-{max(rates):,.0f})"
    tails = f"p50 {median(runs, 'p50'):8,.0f} µs  p99 {median(runs, 'p99'):8,.0f}  p99.9 {median(runs, 'p999'):8,.0f}"
    used = f"CPU {median(runs, 'cpu_per_1000'):6.3f} s/1000  {median(runs, 'memory') / 1e6:5.0f} MB"
    return f"{label:<32} {statistics.median(rates):9,.0f}/s {spread:<17} {tails}  {used}{_notes(runs)}"


def _notes(runs: Sequence[Figure]) -> str:
    failed = sum(run.failed for run in runs)
    busy = statistics.median(run.generator for run in runs)
    return (f"  {failed} FAILED" if failed else "") + (f"  load at {busy:.2f} of its core" if busy > NOISY_GENERATOR else "")


def write_markdown(
    path: Path,
    about: str,
    found: Found,
    extras: Mapping[str, float],
    reached: Sequence[Reached],
    problems: Sequence[str],
    plots: Sequence[Path],
) -> None:
    text = [
        "# Results",
        "",
        f"```\n{about}\n```",
        "",
        "## Aims",
        "",
        RATIOS,
        "",
        "| row | found | aim | |",
        "|---|---|---|---|",
    ]
    text += [f"| {each.row} | {each.found} | {each.aim} | {mark(each)} |" for each in reached]
    text += ["", *(f"- {each}" for each in lines(dict(extras))), "", "## Rows", ""]
    text += ["MODEL-PROTOCOL-CLIENTSc-WORKERSw; medians, and in brackets the smallest and the largest.", ""]
    for row, runs in found.items():
        text += [f"### {row}", "", "| server | requests/s | p50 µs | p99 µs | p99.9 µs | CPU s / 1,000 | memory MB |"]
        text += ["|---|---:|---:|---:|---:|---:|---:|", *(_cells(label, each) for label, each in runs.items()), ""]
    if problems:
        text += ["## Not measured", "", *(f"- {each}" for each in problems), ""]
    text += [f"![{plot.stem}]({plot.name})" for plot in plots]
    path.write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


def _cells(label: str, runs: Sequence[Figure]) -> str:
    rates = [run.rate for run in runs]
    cells = [f"{median(runs, 'rate'):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"]
    cells += [f"{median(runs, name):,.0f}" for name in ("p50", "p99", "p999")]
    cells += [f"{median(runs, 'cpu_per_1000'):.3f}", f"{median(runs, 'memory') / 1e6:,.0f}"]
    return f"| {label}{_notes(runs)} | {' | '.join(cells)} |"


def draw(folder: Path, found: Found) -> list[Path]:
    """Throughput against latency as clients are added, a plot for each model and protocol that has at least two rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    curves: dict[str, dict[str, list[tuple[float, float, int]]]] = defaultdict(lambda: defaultdict(list))
    for row, runs in found.items():
        model, door, clients, workers = row.split("-")
        for label, each in runs.items():
            point = (median(each, "rate"), median(each, "p99") / 1e3, int(clients[:-1]))
            if point[1] == point[1]:
                curves[f"{model}-{door}-{workers}"][label].append(point)
    drawn = []
    for name, lines_of in curves.items():
        if max(map(len, lines_of.values())) < 2:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
        for label, points in lines_of.items():
            rates, tails, clients = zip(*sorted(points, key=lambda point: point[2]), strict=True)
            axes.plot(rates, tails, marker="o", label=label, linewidth=2.5 if label == "foretell" else 1.2)
        axes.set(xscale="log", yscale="log", xlabel="requests/s", ylabel="p99, ms", title=f"{name}: as clients are added")
        axes.grid(visible=True, which="both", alpha=0.2)
        axes.legend(fontsize=8)
        path = folder / f"{name}.svg"
        figure.savefig(path)
        pyplot.close(figure)
        drawn.append(path)
    return drawn
