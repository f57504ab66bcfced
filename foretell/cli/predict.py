"""``foretell predict``."""

from pathlib import Path

import click

from foretell.cli.flags import Predicting, flags_of
from foretell.cli.reading import SOME_ROWS_FAILED, read_pairs, read_settings


@click.command(cls=Predicting, params=flags_of("predict"), short_help="Answer the rows of a file.")
@click.argument("model", metavar="MODEL")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.option("-o", "--output", "target", metavar="OUT", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option(
    "--map",
    "pairs",
    metavar="INPUT=COLUMN",
    multiple=True,
    help="Fill an input from a column of another name; may be repeated.",
)
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings as TOML.")
def predict(model: str, source: Path, target: Path, pairs: tuple[str, ...], config: Path | None, **flags: object) -> None:
    """Answer every row of IN and write the answers to OUT, in the same order.

    IN and OUT are .csv, .ndjson, .parquet or .npy files, or - for NDJSON on standard input or output; IN may also be a
    folder of images. Rows that cannot be answered go to OUT.errors.ndjson with their number and the reason, the others go
    on, and the exit code is 3.

    \b
      foretell predict model.onnx rows.parquet -o answers.parquet
      foretell predict models/digits scans/ -o digits.csv
      foretell predict model.onnx rows.csv -o answers.csv --map age=Age
    """
    settings, _ = read_settings(config, flags)
    columns = read_pairs(pairs)
    from foretell.display import show_report
    from foretell.modes.files import Options
    from foretell.modes.files import predict as answer_file
    from foretell.repository import open_pipeline

    options = Options(map=columns, bar=True, models={"": model})
    report = answer_file(open_pipeline(model), source, target, settings.predict, options)
    show_report(report)
    if report.failed:
        raise click.exceptions.Exit(SOME_ROWS_FAILED)
