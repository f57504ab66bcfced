"""The report of a candidate: report.md for people, report.json for programs, report.png to look at."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from foretell.display import show_bytes, show_time
from foretell.evidence.case import Evidence
from foretell.evidence.measure import Figures
from foretell.evidence.metrics import AGREEMENT
from foretell.evidence.plot import draw
from foretell.evidence.verdict import LEAST_GAIN

AGREED = "agreement with the original"
NOT_TOLD = "not measurable here"
MOST_LAYERS = 20
Row = tuple[str, str, str, str]


def write_report(folder: Path, evidence: Evidence) -> None:
    """Three files in a folder that exists."""
    (folder / "report.md").write_text(as_markdown(evidence), encoding="utf-8")
    (folder / "report.json").write_bytes(orjson.dumps(as_json(evidence), option=orjson.OPT_INDENT_2))
    draw(evidence, folder / "report.png")


def as_json(evidence: Evidence) -> dict[str, Any]:
    """Everything, with the verdict in a word."""
    return {**asdict(evidence), "good": evidence.verdict.good, "forced": evidence.wanted.force and not evidence.verdict.good}


def as_markdown(evidence: Evidence) -> str:
    """One page: the verdict, the figures before and after, what was done, and what to know of the measurement."""
    return "\n".join(_lines(evidence)) + "\n"


def verdict_line(evidence: Evidence) -> str:
    """In a sentence."""
    asked = f"at least {LEAST_GAIN} times better in {evidence.wanted.aim}, and a loss of {evidence.scores.metric} within "
    asked += f"{evidence.wanted.budget}"
    if evidence.verdict.good:
        return f"Good: {asked}."
    forced = "FORCED: it was written although it is not good enough. " if evidence.wanted.force else "Not good enough. "
    return f"{forced}Asked was {asked}; {evidence.verdict.sentence()}."


def table(evidence: Evidence) -> list[Row]:
    """What is told of both: name, before, after, and how they compare."""
    one, two, scores = evidence.before, evidence.after, evidence.scores
    low, high = scores.loss_interval
    rows = [
        (
            AGREED if scores.metric == AGREEMENT else scores.metric,
            "" if scores.metric == AGREEMENT else _scored(scores.before, scores.before_interval),
            _scored(scores.after, scores.after_interval),
            f"loss {scores.loss:+.4f} ({low:+.4f} to {high:+.4f})",
        )
    ]
    if scores.metric != AGREEMENT:
        rows.append((AGREED, "", f"{scores.agreement:.4f}", ""))
    return rows + [_figure_row(*each, one, two) for each in FIGURES] + [_energy(one, two)]


def show_count(count: float) -> str:
    """``812``, ``16,400``, ``5.43 M``, ``1.2 G``."""
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:,.0f}"


FIGURES: tuple[tuple[str, Callable[[Figures], float | None], Callable[[float], str], bool], ...] = (
    ("size", lambda each: each.size_bytes, lambda value: show_bytes(int(value)), False),
    ("parameters", lambda each: each.parameters, show_count, False),
    ("FLOPs of a row", lambda each: each.flops, show_count, False),
    ("p50, 1 row", lambda each: each.p50_1_s, show_time, False),
    ("p50, 32 rows", lambda each: each.p50_32_s, show_time, False),
    ("rows/s", lambda each: each.rows_per_s, show_count, True),
)


def _lines(evidence: Evidence) -> Iterator[str]:
    yield from (f"# {evidence.verb}: {evidence.source}", "", verdict_line(evidence), "")
    yield from ("| | original | changed | better |", "|---|---|---|---|")
    yield from (f"| {' | '.join(row)} |" for row in table(evidence))
    yield from ("", "![The figures](report.png)", "", "## What was done", "")
    yield from (f"- {name}: {value}" for name, value in evidence.how.items())
    yield from (f"- {name}: {value}" for name, value in evidence.machine.items())
    yield f"- rows of {evidence.data}: {evidence.rows['fit']} to fit on, {evidence.rows['test']} others to judge by"
    yield from _layers(evidence)
    yield from ("", "## What to know", "")
    yield from (f"- {each}." for each in (*evidence.verdict.doubts, *evidence.remarks))
    yield (
        "- Both models were timed by turns in one run; intervals are 95 %, by bootstrap over rows, paired for the loss. A "
        "model whose rows disturb each other in a batch is run row by row, as it is served."
    )


def _layers(evidence: Evidence) -> Iterator[str]:
    if not evidence.verdict.trouble:
        return
    yield from ("", "## Layers", "", "What each alone does to the answers, noise by signal; the most troublesome first.", "")
    yield from ("| layer | kind | noise |", "|---|---|---|")
    yield from (f"| {each.name} | {each.kind} | {each.noise:.3g} |" for each in evidence.verdict.trouble[:MOST_LAYERS])


def _scored(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"


def _figure_row(
    name: str,
    value: Callable[[Figures], float | None],
    show: Callable[[float], str],
    higher: bool,
    one: Figures,
    two: Figures,
) -> Row:
    before, after = value(one), value(two)
    shown = ["unknown" if each is None else show(each) for each in (before, after)]
    if not before or not after:
        return (name, *shown, "")  # type: ignore[return-value]
    ratio = after / before if higher else before / after
    return name, shown[0], shown[1], f"{ratio:.2f} times"


def _energy(one: Figures, two: Figures) -> Row:
    shown = [NOT_TOLD if each is None else f"{each * 1e6:,.3g} µJ" for each in (one.joules, two.joules)]
    ratio = f"{one.joules / two.joules:.2f} times" if one.joules and two.joules else ""
    return "energy of a row", shown[0], shown[1], ratio
