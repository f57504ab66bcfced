"""Which format a path is, by its suffix, and the module that reads or writes it."""

from pathlib import Path

from foretell.errors import Setup
from foretell.modes.files.rows import STANDARD, Reader, Sheet, Source, Writer
from foretell.plugins import Plugin, did_you_mean, load_plugin

READERS: dict[str, Plugin] = {
    "csv": Plugin("foretell.modes.files.csv:read", "files"),
    "ndjson": Plugin("foretell.modes.files.ndjson:read"),
    "parquet": Plugin("foretell.modes.files.parquet:read", "files"),
    "npy": Plugin("foretell.modes.files.npy:read"),
    "images": Plugin("foretell.modes.files.images:read"),
}
WRITERS: dict[str, Plugin] = {
    "csv": Plugin("foretell.modes.files.csv:CsvWriter", "files"),
    "ndjson": Plugin("foretell.modes.files.ndjson:NdjsonWriter"),
    "parquet": Plugin("foretell.modes.files.parquet:ParquetWriter", "files"),
    "npy": Plugin("foretell.modes.files.npy:NpyWriter"),
}
SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet", ".pq": "parquet", ".npy": "npy"}


def format_of(path: Path) -> str:
    """The format's name: a folder holds images, ``-`` is NDJSON. Raises Setup ``unknown_suffix``."""
    if path == STANDARD:
        return "ndjson"
    if path.is_dir():
        return "images"
    name = SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise Setup("unknown_suffix", f"{path} has the suffix {path.suffix!r}{did_you_mean(path.suffix.lower(), SUFFIXES)}")
    return name


def open_reader(source: Source) -> Reader:
    """The source, opened, its columns matched. Raises Setup."""
    if source.path != STANDARD and not source.path.exists():
        raise Setup("missing_file", f"there is no file of rows at {source.path}: check the path")
    read = load_plugin("format of rows", READERS, format_of(source.path))
    try:
        reader: Reader = read(source)
    except OSError as error:
        raise Setup("broken_file", f"{source.path} cannot be read: {error.strerror or error}") from error
    return reader


def open_writer(sheet: Sheet) -> Writer:
    """A writer on the sheet's stream. Raises Setup if the format cannot hold what the model answers."""
    writer: Writer = load_plugin("format of answers", WRITERS, format_of(sheet.path))(sheet)
    return writer
