"""The options of the verbs that change a model and judge the outcome, read in one way."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from foretell.cli.reading import read_pairs, read_settings

if TYPE_CHECKING:
    from foretell.evidence.case import Evidence
    from foretell.evidence.progress import Progress
    from foretell.evidence.verdict import Wanted

Verb = TypeVar("Verb", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "-o", "--output", "target", metavar="OUT", type=click.Path(path_type=Path), required=True, help="File to write."
    ),
    click.option(
        "--data",
        metavar="DATA",
        type=click.Path(path_type=Path),
        required=True,
        help="Rows like those of real use: .csv, .ndjson, .parquet, .npz, or a folder of images, one subfolder a class.",
    ),
    click.option("--label", metavar="COLUMN", help="The column of labels.  [default: label, if there is one]"),
    click.option(
        "--map", "pairs", metavar="INPUT=COLUMN", multiple=True, help="Fill an input from another column; may be repeated."
    ),
    click.option(
        "--metric",
        metavar="NAME",
        help="accuracy, f1, auc, rmse, agreement, or app.py:function.  [default: what fits the model and the labels]",
    ),
    click.option("--budget", metavar="X", default="1%", help="Largest loss of the metric: 0.01, or 1%.  [default: 1%]"),
    click.option(
        "--for",
        "aim",
        type=click.Choice(["latency", "throughput", "size"]),
        default="latency",
        help="What is to be 1.1 times better.  [default: latency]",
    ),
    click.option("--force", is_flag=True, help="Write the model even if it is not good enough, marked as such."),
)

BY_ROWS = OPTIONS[1:6]
"""Those that say by what is judged, without what is written: --data to --budget."""


def judged(verb: Verb) -> Verb:
    """Gives a verb these options, in this order."""
    return _given(verb, OPTIONS)


def judged_by_rows(verb: Verb) -> Verb:
    """Gives a verb those of ``BY_ROWS``."""
    return _given(verb, BY_ROWS)


def _given(verb: Verb, options: Sequence[Callable[[Verb], Verb]]) -> Verb:
    for option in reversed(options):
        verb = option(verb)
    return verb


def read_wanted(options: dict[str, Any]) -> "Wanted":
    """Takes these options, but for the paths, out of ``options``; and sets up logging. Raises Setup ``wrong_setting``.

    A verb that has not all of them wants the defaults of the others.
    """
    read_settings(None, {name: options.pop(name) for name in list(options) if name.startswith("log__")})
    from foretell.evidence.verdict import Wanted, parse_budget

    return Wanted(
        aim=options.pop("aim", "latency"),
        budget=parse_budget(options.pop("budget")),
        metric=options.pop("metric"),
        label=options.pop("label"),
        map=read_pairs(options.pop("pairs")),
        force=options.pop("force", False),
    )


def write_and_show(write: "Callable[[Progress, Callable[[Evidence], None]], object]", target: Path) -> None:
    """Have a verb write its model to ``target``, and show the evidence whatever became of it."""
    from foretell.evidence.progress import choose_progress
    from foretell.evidence.show import show_evidence

    found: list[Evidence] = []
    try:
        with choose_progress(True) as progress:
            write(progress, found.append)
    finally:
        for evidence in found:
            show_evidence(evidence)
    click.echo(f"{target}, and why in {target.with_suffix('.evidence')}/report.md", err=True)
