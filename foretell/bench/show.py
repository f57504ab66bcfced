"""What a person sees of a measurement: a table, bars in the terminal, and a plot in a file."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.table import Table

from foretell.bench.figures import PERCENTILES, Figures
from foretell.bench.session import MADE_UP, Report, Wanted, bench
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
    with _progress(as_json=as_json) as shown:
        report = bench(wanted, shown)
    if as_json:
        sys.stdout.write(orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        show(report, _console(sys.stdout))
    if plot is not None:
        draw(report, plot)
    return not report.problem


def _console(file: TextIO) -> Console:
    return Console(file=file, highlight=False, width=None if file.isatty() else WIDTH_WHEN_PIPED)


@contextmanager
def _progress(*, as_json: bool) -> Iterator[Callable[[Step], None]]:
    """What shows each step as it ends, on standard error; where the table will stand too, on one line that goes away."""
    if as_json or not _same_place(sys.stdout, sys.stderr):
        yield lambda step: _console(sys.stderr).print(f"  {_line(step)}")
        return
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    yield lambda step: _write_over(_line(step))
    _write_over("")


def _write_over(line: str) -> None:
    sys.stderr.write(f"\r\x1b[2K{line[: shutil.get_terminal_size().columns - 1]}")
    sys.stderr.flush()


def _same_place(one: TextIO, other: TextIO) -> bool:
    """Whether both are written to the same terminal, pipe or file."""
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except OSError:  # one of them is no file at all
        return False


def _line(step: Step) -> str:
    return f"{_rate(step.rate):>10} requests/s  p99 {_ms(step.figures.latency_s['p99'])}  {step.problem or 'good'}"


def show(report: Report, console: Console) -> None:
    """The report as tables."""
    if report.sweep is not None:
        _show_sweep(report.sweep, console)
    if report.verdict is not None:
        verdict = report.verdict
        value = f"{verdict.value:,.0f}" if verdict.value >= 1000 else f"{verdict.value:,.2f}"
        console.print(f"\n[bold]{verdict.scenario}[/bold]: {value} {verdict.unit} ({verdict.metric})")
    if report.figures is not None:
        _show_latency(report.figures, console)
        _show_counts(report.figures, report.wanted.rate, console)
    if report.rows != MADE_UP:
        console.print(f"  rows: {report.rows}", style="dim")
    if report.problem:
        console.print(f"\n[bold red]not to be relied on[/bold red]: {report.problem}")


def _show_latency(figures: Figures, console: Console) -> None:
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


def _show_counts(figures: Figures, asked: float | None, console: Console) -> None:
    rate = f"\n  {figures.rate:,.1f} good answers/s in {figures.seconds:.1f} s"
    if asked is not None:
        rate += f", of {asked:,g} requests/s asked for ({figures.sent / figures.seconds:,.1f}/s fell due)"
    if asked is None or not figures.behind:
        well = f"{figures.good:,} of {figures.sent:,} requests were answered well"
        console.print(f"{rate}; {well}; longest {_ms(figures.longest_s)}")
    else:
        console.print(f"{rate}: [bold red]the server did not keep up[/bold red]")
        answers = round(figures.rate * figures.seconds)
        console.print(
            f"  in this time {figures.sent:,} requests fell due and {answers:,} good answers came; when it ended"
            f" {figures.waiting:,} requests waited, the last of them for {figures.drained_s:,.1f} s more"
        )
        console.print("  the queue grew all the time: the percentiles tell of its length, and would be longer in a longer load")
    for outcome, count in sorted(figures.outcomes.items()):
        console.print(f"  [yellow]{outcome}[/yellow]: {count:,} requests")
    console.print(f"  the generator used {figures.cpu:.0%} of a core, and was {_ms(figures.lag_s)} late (p99)", style="dim")


def _show_sweep(sweep: Sweep, console: Console) -> None:
    table = Table(box=None, header_style="dim", padding=(0, 1))
    for title in ("asked/s", "sent/s", "answered/s", "p50", "p99", "", ""):
        table.add_column(title, justify="right" if title else "left")
    for step in sorted(sweep.steps, key=lambda step: step.rate):
        tail = step.figures.latency_s["p99"]
        share = min(tail / sweep.slo_s, 2.0) if tail == tail else 0.0  # noqa: PLR0124 - not for NaN
        bar = f"[{'red' if step.problem else 'green'}]{'█' * max(round(BAR / 3 * share), 1)}[/]" if share else ""
        rates = (step.rate, step.figures.sent / step.figures.seconds, step.figures.rate)
        cells = (*map(_rate, rates), _ms(step.figures.latency_s["p50"]), _ms(tail))
        table.add_row(*cells, bar, step.problem or ("the knee" if step is sweep.knee else ""))
    console.print(table)
    if sweep.knee is None:
        lowest = min(sweep.steps, key=lambda step: step.rate)
        least = f"at {_rate(lowest.rate)} requests/s p99 was still {_ms(lowest.figures.latency_s['p99'])}"
        console.print(f"\n[bold red]no rate was good[/bold red]: {least}; allow more than {_bound(sweep)} with --slo-ms")
    else:
        console.print(f"\nthe knee: [bold]{sweep.knee.rate:,.1f} requests/s[/bold] with p99 within {_bound(sweep)}")


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
        _draw_sweep(report.model, report.sweep, axes)
    elif report.figures is not None:
        _draw_load(report, report.figures, axes)
    axes.set(ylabel="latency in ms")
    axes.grid(visible=True, which="both", alpha=0.2)
    figure.savefig(path)
    pyplot.close(figure)


def _draw_load(report: Report, figures: Figures, axes: Any) -> None:
    names = figures.well_founded or ["p50"]
    _draw_line(axes, names, [figures.latency_s[name] for name in names])
    wanted = report.wanted
    load = f"{wanted.rate:,g} requests/s" if wanted.rate is not None else wanted.scenario or f"{wanted.clients} clients"
    axes.set(
        title=f"foretell bench: {report.model}, {load}",
        xlabel=f"percentile of {figures.sent:,} requests, where 10 or more lie above",
    )
    _scale(axes)


def _draw_sweep(model: str, sweep: Sweep, axes: Any) -> None:
    steps = sweep.rates
    for name in ("p50", "p99"):
        _draw_line(axes, [step.rate for step in steps], [step.figures.latency_s[name] for step in steps], name)
    if bad := [(step.rate, step.figures.latency_s["p99"] * 1e3) for step in steps if step.problem]:
        axes.plot(*zip(*bad, strict=True), "rx", markersize=10, label="not good")
    axes.axhline(sweep.slo_s * 1e3, color="grey", linestyle="--", label=f"bound of p99: {_bound(sweep)}")
    if sweep.knee is not None:
        axes.axvline(sweep.knee.rate, color="green", linestyle=":", label=f"knee: {_rate(sweep.knee.rate)} requests/s")
    axes.set(xlabel="requests/s", title=f"foretell bench: {model}, p99 within {_bound(sweep)}")
    axes.xaxis.set_major_formatter("{x:,g}")
    _scale(axes)
    axes.legend()


def _draw_line(axes: Any, x: Iterable[object], y: Iterable[float], label: str | None = None) -> None:
    axes.plot(list(x), [value * 1e3 for value in y], marker="o", label=label)


def _scale(axes: Any) -> None:
    """By powers of ten where the latencies span more than one of them, else from zero: plain numbers either way."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.dataLim.intervaly
    if high > 10 * low > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,g}")


def _bound(sweep: Sweep) -> str:
    """``20 ms``, as it was typed."""
    return f"{sweep.slo_s * 1e3:,g} ms"


def _rate(rate: float) -> str:
    return f"{rate:,.1f}" if rate >= 1 else f"{rate:.2g}"


def _ms(seconds: float) -> str:
    """``0.412 ms``, ``57.3 ms``, ``1,204 ms``; ``-`` of nothing."""
    value = seconds * 1e3
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "-"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.3f} ms"
