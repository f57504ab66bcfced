"""What the verbs that change a model have in common: rows, metric, budget and aim, and what is told at the end."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from foretell.evidence.case import Evidence
    from foretell.evidence.verdict import Wanted

JUDGING = (
    click.option("-o", "--output", "target", metavar="OUT", type=click.Path(path_type=Path), required=True, help="File to write."),
    click.option(
        "--data", metavar="ROWS", type=click.Path(path_type=Path), required=True, help="Rows like those of real use: a table, an .npz, or images."
    ),
    click.option("--label", metavar="NAME", help="Column of labels.  [default: label, if there is one]"),
    click.option("--map", "pairs", metavar="INPUT=COLUMN", multiple=True, help="Fill an input from a column of another name."),
    click.option("--metric", metavar="NAME", help="accuracy, f1, auc, rmse, or app.py:function.  [default: what fits]"),
    click.option("--budget", metavar="LOSS", default="1%", help="Largest loss of the metric: 0.01, or 1% of what it was.  [default: 1%]"),
    click.option(
        "--for",
        "aim",
        type=click.Choice(["latency", "throughput", "size"]),
        default="latency",
        help="What is to be 1.1 times better.  [default: latency]",
    ),
    click.option("--seed", metavar="N", type=int, default=0, help="The same seed gives the same model.  [default: 0]"),
    click.option("--force", is_flag=True, help="Write a model that is not good enough all the same, marked as such."),
)
JUDGED = ("aim", "budget", "metric", "label", "pairs", "force")
"""The names of those that ``wanted_of`` reads."""


def judged(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a verb the options of ``JUDGING``."""
    for option in reversed(JUDGING):
        command = option(command)
    return command


def wanted_of(options: dict[str, Any]) -> "Wanted":
    """The options of ``JUDGING`` as one value."""
    from foretell.cli.reading import read_pairs
    from foretell.evidence.verdict import Wanted, parse_budget

    return Wanted(
        aim=options["aim"],
        budget=parse_budget(options["budget"]),
        metric=options["metric"],
        label=options["label"],
        map=read_pairs(options["pairs"]),
        force=options["force"],
    )


def tell(target: Path, evidence: "Evidence") -> None:
    """What was written, and how it compares."""
    from foretell.evidence.publish import report_folder
    from foretell.observe.logs import escape

    scores = evidence.scores
    gains = ", ".join(f"{aim} {gain.ratio:.2f}x" for aim, gain in evidence.gains.items())
    click.echo(f"{escape(str(target))}: {gains}")
    click.echo(f"{scores.metric} {scores.before:.4f} -> {scores.after:.4f}, agreement {scores.agreement:.4f} on {scores.rows} rows")
    for each in (*evidence.verdict.reasons, *evidence.verdict.doubts):
        click.echo(f"  {escape(each)}")
    click.echo(f"report: {escape(str(report_folder(target) / 'report.md'))}")
