"""The table of formats, and the modules that read and write them."""

from foretell.errors import Setup
from foretell.modes.files.inputs import TABLES, format_of
from foretell.modes.files.rows import STANDARD, Reader, Sheet, Source, Writer
from foretell.plugins import Plugin, load_plugin

READERS: dict[str, Plugin] = {
    "csv": Plugin("foretell.modes.files.csv:read", "files"),
    "ndjson": Plugin("foretell.modes.files.ndjson:read"),
    "parquet": Plugin("foretell.modes.files.parquet:read", "files"),
    "npy": Plugin("foretell.modes.files.npy:read"),
    "npz": Plugin("foretell.modes.files.npz:read"),
    "images": Plugin("foretell.modes.files.media:read"),
    "sounds": Plugin("foretell.modes.files.media:read"),
}
WRITERS: dict[str, Plugin] = {
    "csv": Plugin("foretell.modes.files.csv:CsvWriter", "files"),
    "ndjson": Plugin("foretell.modes.files.ndjson:NdjsonWriter"),
    "parquet": Plugin("foretell.modes.files.parquet:ParquetWriter", "files"),
    "npy": Plugin("foretell.modes.files.npy:NpyWriter"),
}
ENDINGS = {form: suffix for suffix, form in reversed(TABLES.items())}
"""The suffix of a file that is written in a format."""


def open_reader(source: Source) -> Reader:
    """The source, opened, its columns matched. Raises Setup."""
    if source.path != STANDARD and source.shard is None and not source.path.exists():
        raise Setup("missing_file", f"there is no file of rows at {source.path}: check the path")
    read = load_plugin("format of rows", READERS, source_format(source))
    try:
        reader: Reader = read(source)
    except OSError as error:
        raise Setup("broken_file", f"{source.path} cannot be read: {error.strerror or error}") from error
    return reader


def source_format(source: Source) -> str:
    if source.shard is not None:
        return source.shard.format
    return "ndjson" if source.path == STANDARD else format_of(source.path)


def open_writer(sheet: Sheet) -> Writer:
    """A writer on the sheet's stream. Raises Setup if the format cannot hold what the model answers."""
    writer: Writer = load_plugin("format of answers", WRITERS, sheet.format)(sheet)
    return writer
