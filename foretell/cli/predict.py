"""``foretell predict``."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foretell.cli.flags import Predicting, flags_of
from foretell.cli.reading import SOME_ROWS_FAILED, have_arrow_hold_less, interruptible, read_pairs, read_settings

if TYPE_CHECKING:
    from foretell.modes.files import Options


@dataclass(frozen=True)
class Wishes:
    """What is asked for besides the settings, as it was typed."""

    pairs: tuple[str, ...]
    models: tuple[str, ...]
    keep: tuple[str, ...]
    where: str
    limit: int | None
    sample: float
    seed: int
    file_format: str | None
    restart: bool
    dry_run: bool
    report: Path | None
    engine: str
    address: str


@click.command(cls=Predicting, params=flags_of("predict"), short_help="Answer the rows of files.")
@click.argument("model", metavar="MODEL")
@click.argument("source", metavar="IN")
@click.option(
    "-o", "--output", "target", metavar="OUT", default="", help="File to write, or a folder: OUT/; only --dry-run needs none."
)
@click.option("--map", "pairs", metavar="INPUT=COLUMN", multiple=True, help="Fill an input from a column of another name.")
@click.option("--model", "models", metavar="MODEL", multiple=True, help="Another model for the same rows; may be repeated.")
@click.option("--keep", metavar="COLUMNS", multiple=True, help="Columns to pass on, with commas between; * for all.")
@click.option("--where", metavar="TEXT", default="", help="Answer only rows that pass, as in \"age > 30 and land == 'DE'\".")
@click.option("--limit", metavar="N", type=click.IntRange(0), help="Look at the first N rows only.")
@click.option(
    "--sample", metavar="X", type=click.FloatRange(0, 1), default=1.0, help="Answer a share of the rows, from 0 to 1."
)
@click.option("--seed", metavar="N", type=click.IntRange(0), default=0, help="Draw another sample.")
@click.option("--format", "file_format", type=click.Choice(["csv", "ndjson", "parquet"]), help="Format of the files of OUT/.")
@click.option("--restart", is_flag=True, help="Begin anew: forget what an unfinished run has done.")
@click.option("--dry-run", is_flag=True, help="Answer a few rows, write nothing, and say how long all will take.")
@click.option("--report", metavar="FILE", type=click.Path(path_type=Path), help="Write the report as JSON too.")
@click.option(
    "--engine", type=click.Choice(["threads", "ray"]), default="threads", help="What runs the shards.  [default: threads]"
)
@click.option("--address", metavar="HOST:PORT", default="", help="Head of the Ray cluster.  [default: one of this machine]")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings as TOML.")
def predict(model: str, source: str, target: str, config: Path | None, **given: object) -> None:
    """Answer every row of IN and write the answers to OUT, in the same order.

    IN is a .csv, .ndjson, .parquet, .npy or .npz file, a folder or pattern of such files, a folder, .zip or .tar of images or
    sounds, s3://, gs:// or az:// of any of these, or - for NDJSON on standard input. OUT is a file by its suffix, a folder, or
    - for NDJSON on standard output. Rows that cannot be answered go to OUT.errors.ndjson with their number and the reason, the
    others go on, and the exit code is 3. A run that was stopped goes on when the same command is typed again.

    \b
      foretell predict model.onnx rows.parquet -o answers.parquet
      foretell predict models/digits scans/ -o digits.csv
      foretell predict model.onnx "s3://lake/rows/**/*.parquet" -o s3://lake/answers/ --keep id --where "age > 30"
    """
    flags = {name: given.pop(name) for name in list(given) if "__" in name}
    wishes = Wishes(**given)  # type: ignore[arg-type]  # click gives them by these names
    check_wishes(wishes, source, target)
    settings, _ = read_settings(config, flags)
    columns = read_pairs(wishes.pairs)
    have_arrow_hold_less()
    from foretell.display import show_forecast, show_report
    from foretell.modes.files import combine, forecast
    from foretell.modes.files import predict as answer_files
    from foretell.repository import find_model, open_pipeline
    from foretell.repository.fingerprint import fingerprint

    paths = name_models((model, *wishes.models))
    found = {name: find_model(path) for name, path in paths.items()}
    options = make_options(wishes, columns, paths, {name: fingerprint(each) for name, each in found.items()})
    if wishes.engine == "ray":
        options = use_ray(options, wishes.address, settings.predict.workers)
    pipeline = combine({name: open_pipeline(each) for name, each in found.items()})
    if wishes.dry_run:
        show_forecast(forecast(pipeline, source, target or "-", settings.predict, options), wishes.report)
        return
    goes_on = "" if "-" in (source, target) else f": what was finished is kept beside {target}, and the same command goes on"
    with interruptible(f"stopped{goes_on}"):
        report = answer_files(pipeline, source, target, settings.predict, options)
    show_report(report, wishes.report)
    if report.failed:
        raise click.exceptions.Exit(SOME_ROWS_FAILED)


def name_models(paths: Iterable[str]) -> dict[str, str]:
    """Each model's path by its name, which is that of its file or folder; a second of one name gets a number."""
    named: dict[str, str] = {}
    for path in paths:
        name = Path(path.rpartition(":")[0] or path).stem if ".py:" in path else Path(path).stem
        names = itertools.chain([name], (f"{name}{number}" for number in itertools.count(2)))
        named[next(each for each in names if each not in named)] = path
    return named


def check_wishes(wishes: Wishes, source: str, target: str) -> None:
    """Raises UsageError."""
    if not target and not wishes.dry_run:
        text = "say by --output where the answers go: -o answers.csv, or - for standard output"
        raise click.UsageError(text, click.get_current_context())
    if wishes.address and wishes.engine != "ray":
        raise click.UsageError("--address goes with --engine ray", click.get_current_context())
    if wishes.engine == "ray" and "-" in (source, target):
        raise click.UsageError("--engine ray reads and writes files: name them, in place of -", click.get_current_context())


def use_ray(options: "Options", address: str, actors: int) -> "Options":
    """Raises Setup ``missing_extra`` at once, not only when the shards are run."""
    from foretell.cli.engines import on_ray
    from foretell.modes.ray import Cluster

    return replace(options, executor=on_ray(Cluster(address, actors), options.fingerprints))


def make_options(
    wishes: Wishes, columns: Mapping[str, str], paths: Mapping[str, str], fingerprints: Mapping[str, str]
) -> "Options":
    from foretell.modes.files import Options

    return Options(
        map=columns,
        keep=tuple(name.strip() for text in wishes.keep for name in text.split(",") if name.strip()),
        where=wishes.where,
        limit=wishes.limit,
        sample=wishes.sample,
        seed=wishes.seed,
        format=wishes.file_format or "",
        restart=wishes.restart,
        bar=True,
        models=paths,
        fingerprints=fingerprints,
    )
