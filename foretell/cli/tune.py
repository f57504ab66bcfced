"""``foretell tune``."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.judging import judged_by_rows, read_wanted
from foretell.cli.reading import INTERRUPTED

if TYPE_CHECKING:
    from foretell.evidence.case import Case
    from foretell.optimize.quantize import Name
    from foretell.optimize.tune.variants import Maker


def read_numbers(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...]:
    """``1,2,4``; none at all where nothing was said."""
    if value is None:
        return ()
    try:
        numbers = tuple(sorted({int(each) for each in value.split(",")}))
    except ValueError:
        numbers = ()
    if not numbers or numbers[0] < 1:
        raise click.BadParameter(f"{value!r} is no list of numbers from 1, such as 1,2,4", ctx, option)
    return numbers


PRECISIONS: "tuple[Name, ...]" = ("int8", "float16")
"""Methods of quantizing whose models are served, beside the model as it is."""


@click.command(cls=Sectioned, params=flags_of("tune"), short_help="Find how a model is served best on this machine.")
@click.argument("model", metavar="MODEL")
@judged_by_rows
@click.option("--slo", metavar="P=TIME", required=True, help="What must hold: p99=20ms, p50=500us.")
@click.option(
    "-o", "--output", "target", metavar="FOLDER", type=click.Path(path_type=Path), help="To write.  [default: MODEL-tuned]"
)
@click.option("--seconds", metavar="X", type=click.FloatRange(1, 86_400), help="Time for all looks.  [default: what is needed]")
@click.option("--protocol", type=click.Choice(["json", "binary", "grpc"]), default="json", help="Spoken.  [default: json]")
@click.option("--only", metavar="NAME", multiple=True, help="Only this runtime and precision; more than once for several.")
@click.option("--workers", metavar="N,N", callback=read_numbers, help="Only so many workers.")
@click.option("--threads", metavar="N,N", callback=read_numbers, help="Only so many threads of a forward.")
@click.option("--batch-rows", metavar="N,N", callback=read_numbers, help="Only so many rows of a batch.")
@click.option("--trust", is_flag=True, help="Load MODEL even if its format can run any code: a pickle, say.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def tune(model: str, slo: str, target: Path | None, as_json: bool, **options: Any) -> None:
    """Find the runtime, precision, threads, workers and batches with which MODEL answers most rows within an objective.

    Every candidate is served for a moment by a server of its own, on this machine, and asked by clients that wait for their
    answers. The best is measured again beside the defaults, by turns. Only if it is surely better, FOLDER gets the model with
    its pipeline.toml, and settings.toml for the server; it always gets a table of what was tried, and a plot.

    \b
      foretell tune model.onnx --data rows.csv --slo p99=20ms
      foretell tune models/digits --data rows.npz --slo p50=1ms --seconds 300 -o digits-tuned
    """
    judged = read_wanted(options)
    from foretell.optimize.tune import Objective, Wanted
    from foretell.optimize.tune import tune as search
    from foretell.optimize.tune.show import Lines, show

    objective = Objective.parse(slo)
    folder = target or Path(f"{Path(model.partition('.py:')[0]).with_suffix('').name}-tuned")
    wanted = Wanted(objective=objective, target=folder, judged=judged, makers=makers, **options)
    report = search(model, wanted, Lines(objective))
    click.echo(json.dumps(report.to_json(), indent=2)) if as_json else show(report, folder)
    if report.interrupted:
        raise click.exceptions.Exit(INTERRUPTED)


def makers(case: "Case") -> "dict[str, Maker]":
    """What writes the model in each precision: as ``foretell quantize`` would, whatever it gains by that alone."""
    from foretell.optimize.quantize import Quantizing, quantize_case

    def make(precision: "Name", plain: Path, target: Path) -> None:
        quantize_case(replace(case, source=plain), target, Quantizing(method=precision))

    return {precision: partial(make, precision) for precision in PRECISIONS}
