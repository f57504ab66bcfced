"""``foretell quantize``."""

from pathlib import Path
from typing import Any

import click

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.judging import judged, read_wanted, write_and_show

METHODS = ("int8", "int8-dynamic", "int8-weights", "int4-weights", "float16", "float16-weights", "bfloat16-weights")


@click.command(cls=Sectioned, params=flags_of("quantize"), short_help="Write a model with fewer bits a number.")
@click.argument("model", metavar="MODEL")
@judged
@click.option("--method", type=click.Choice(METHODS), default="int8", help="What becomes smaller.  [default: int8]")
@click.option(
    "--calibration",
    type=click.Choice(["minmax", "entropy", "percentile"]),
    default="minmax",
    help="int8: how the ranges of activations are found.  [default: minmax]",
)
@click.option(
    "--calibration-rows", metavar="N", type=click.IntRange(1), default=256, help="int8: rows to find them on.  [default: 256]"
)
@click.option("--per-channel/--per-tensor", default=True, help="int8: a scale for each channel of a weight, or one for all.")
@click.option("--seven-bits", is_flag=True, help="int8: weights of 7 bits, where 8-bit products saturate (AVX2).")
@click.option("--leave-out", metavar="LAYER", multiple=True, help="A layer that stays as it is; may be repeated.")
def quantize(model: str, data: Path, target: Path, **options: Any) -> None:
    """Write MODEL, an ONNX model, with fewer bits a number: as many of its layers as the budget allows.

    int8 changes weights and activations, whose ranges are found on rows of DATA; int8-dynamic finds them anew for each answer;
    the others change weights only, or all floats to halves. Some rows of DATA are for choosing, the others for judging. The
    model is written with a report, OUT's .evidence/, and only if it is 1.1 times better in what was asked and its loss is
    within the budget.

    \b
      foretell quantize model.onnx -o small.onnx --data rows.csv --label class
      foretell quantize models/digits -o small.onnx --data scans/ --for size --method int4-weights
    """
    wanted = read_wanted(options)
    from foretell.optimize.quantize import Quantizing
    from foretell.optimize.quantize import quantize as write

    chosen = Quantizing(
        method=options["method"],
        calibration=options["calibration"],
        rows=options["calibration_rows"],
        per_channel=options["per_channel"],
        seven_bits=options["seven_bits"],
        leave_out=options["leave_out"],
    )
    write_and_show(lambda progress, tell: write(model, data, target, chosen, wanted, progress, tell), target)
