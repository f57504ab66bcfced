"""``foretell convert``."""

from pathlib import Path

import click

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.reading import read_settings


@click.command(cls=Sectioned, params=flags_of("convert"), short_help="Write a model in another format.")
@click.argument("model", metavar="MODEL")
@click.option("-o", "--output", "target", metavar="OUT", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option(
    "--rows", metavar="FILE", type=click.Path(path_type=Path), help="Rows to compare on, as for predict.  [default: made up]"
)
@click.option(
    "--tolerance",
    metavar="X",
    type=click.FloatRange(0),
    default=1e-3,
    help="Largest difference allowed, by the largest value of an output.  [default: 0.001]",
)
@click.option("--trust", is_flag=True, help="Load MODEL even if its format can run any code: a pickle, say.")
def convert(model: str, target: Path, rows: Path | None, tolerance: float, trust: bool, **flags: object) -> None:
    """Write MODEL in the format of OUT: .onnx, .xml (OpenVINO) or .tflite (LiteRT).

    Both then answer the same rows, and the largest differences are shown. If one is above the tolerance, nothing is written.

    \b
      foretell convert model.json -o model.onnx
      foretell convert model.onnx -o model.xml --rows rows.csv --tolerance 1e-5
    """
    read_settings(None, flags)
    from foretell.backends import ModelOptions
    from foretell.convert import Wanted
    from foretell.convert import convert as write
    from foretell.display import show_conversion

    show_conversion(write(model, target, Wanted(tolerance, rows, ModelOptions(trust=trust))))
