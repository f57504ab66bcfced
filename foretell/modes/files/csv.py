"""CSV with a header row, comma-separated, in UTF-8. Blank lines are no rows."""

import contextlib
import csv
import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from foretell.errors import Broken, Setup
from foretell.modes.files.cells import Cells
from foretell.modes.files.columns import Binding, bind, needed
from foretell.modes.files.lines import count_lines, csv_ends
from foretell.modes.files.outputs import as_text, to_arrow, with_arrow
from foretell.modes.files.partitions import partition_of, with_partition
from foretell.modes.files.quotes import find_quotes
from foretell.modes.files.rechunk import rechunk
from foretell.modes.files.rows import Answers, BadRow, Chunk, Numbers, Rows, Sheet, Source, leading_columns
from foretell.modes.files.section import Extent, Section
from foretell.modes.files.selection import kept_columns, selection_of
from foretell.tensors import Array, Datatype

BLOCK_BYTES = 2**20
"""Bytes parsed at a time."""
NOT_CLOSED = 'is not closed in front of a comma or a line end: close it, remove it, or write "" for a quote that is text'
BOM = b"\xef\xbb\xbf"
MOST_REFUSED = 100_000
"""Rows of the wrong length in a row, after which the whole file is refused: its delimiter must be another."""


def read(source: Source) -> "CsvReader":
    """Opens the file and matches its header. Raises Setup."""
    with contextlib.ExitStack() as on_refusal:
        stream = on_refusal.enter_context(source.path.open("rb"))
        header, extent = _extent_of(source, stream)
        _refuse_other_separators(header, source)
        section = Section(stream, extent, BLOCK_BYTES, len(header))
        reader = CsvReader(source, section, header, bind(source, header, partition_of(source)))
        on_refusal.pop_all()
    return reader


def _extent_of(source: Source, stream: BinaryIO) -> tuple[list[str], Extent]:
    """The names of the columns, and where their rows lie."""
    if source.shard is not None:
        return list(source.shard.columns), Extent(source.shard.start, source.shard.stop, source.shard.first_line)
    header, start, line = read_header(stream, str(source.path))
    return header, Extent(start, stream.seek(0, os.SEEK_END), line)


class CsvReader:
    """Rows of a CSV file. Cells are split here as text and become numbers in ``decode``."""

    def __init__(self, source: Source, section: Section, header: Sequence[str], bindings: Sequence[Binding]) -> None:
        self.source = source
        self.section = section
        self.header = header
        self.partition = partition_of(source)
        known = [*header, *(name for name in self.partition if name not in header)]
        selection, kept = selection_of(source), kept_columns(source, known)
        self.wanted = list(dict.fromkeys([*needed(bindings), *kept, *selection.columns(known)]))
        self.columns = [name for name in self.wanted if name in header]
        self.texts = {name for binding in bindings if binding.spec.dtype is Datatype.BYTES for name in binding.columns}
        self.cells = Cells(bindings, kept, selection, text=True)

    def chunks(self) -> Iterator[Chunk]:
        refused: deque[BadRow] = deque()
        first = self.source.first_row
        for table in rechunk(self._batches(refused), self.source.chunk_rows):
            numbers, bad = _number(first, table.num_rows, refused)
            first += table.num_rows + len(bad)
            yield Chunk(numbers, table, self.section.done, bad)
        if refused:
            yield Chunk(np.empty(0, dtype=np.int64), None, 1.0, tuple(refused))

    def decode(self, chunk: Chunk) -> Rows:
        table = with_partition(chunk.raw, self.partition, self.wanted)
        return self.cells.decode(table, chunk.numbers)

    def close(self) -> None:
        self.section.close()

    def _batches(self, refused: deque[BadRow]) -> Iterator[Any]:
        def refuse(row: Any) -> str:
            refused.append(BadRow(self.source.first_row + row.number - 1, "bad_row", self._why(row)))
            return "skip" if len(refused) < MOST_REFUSED else "error"

        try:
            reader = self._open(refuse)
            for batch in reader or ():
                yield batch.rename_columns(self.columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Setup("broken_file", f"{self.source.path} cannot be read as CSV: {error}") from error

    def _why(self, row: Any) -> str:
        """What is wrong with a row that Arrow refused."""
        line = self.section.faults.pop(row.text, None)
        if line is not None:
            return f"the quote opened in line {line} {NOT_CLOSED}"
        error = f"the row has {row.actual_columns} cells, the header {row.expected_columns}"
        more = row.text.count("\n") or row.text.count("\r")
        return f"{error}; quotes make one row of {more + 1} lines: is one of them lost, or too many?" if more else error

    def _open(self, refuse: Any) -> Any:
        """Arrow's reader behind the header, or None if nothing is there. On one thread, as only then rows have numbers."""
        places = [str(self.header.index(name)) for name in self.columns]
        kinds = {
            place: pa.binary() if name in self.texts else pa.string() for place, name in zip(places, self.columns, strict=True)
        }
        options = pa.csv.ConvertOptions(
            check_utf8=False,
            column_types=kinds,
            include_columns=places,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        names = [str(place) for place in range(len(self.header))]
        reading = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names)
        parsing = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse)
        if self.section.extent.start == self.section.extent.stop:
            return None
        return pa.csv.open_csv(self.section, reading, parsing, options)


class CsvWriter:
    """A column for each scalar output, ``name_0`` to ``name_{n-1}`` for an output of n elements; the header first."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.header: list[str] | None = None

    def encode(self, answers: Answers) -> tuple[list[str], bytes]:
        columns: dict[str, Any] = {}
        for name, column in {**leading_columns(with_arrow(answers)), **answers.outputs}.items():
            for key, values in _spread(name, column):
                if key in columns:
                    raise Broken("wrong_output", f"two output columns are named {key!r}: write to .parquet or .ndjson instead")
                columns[key] = values
        sink = pa.BufferOutputStream()
        if len(answers.numbers):
            options = pa.csv.WriteOptions(include_header=False, quoting_style="needed")
            pa.csv.write_csv(pa.table(columns), sink, options)
        return list(columns), sink.getvalue().to_pybytes()

    def write(self, encoded: tuple[list[str], bytes]) -> None:
        header, text = encoded
        if self.header is None:
            self.header = header
            self.sheet.stream.write(_header_line(header))
        if header != self.header:
            widths = f"{len(self.header)} columns to {len(header)}"
            raise Setup(
                "wrong_target", f"the answers change from {widths}, which CSV cannot hold: write to .parquet or .ndjson"
            )
        self.sheet.stream.write(text)

    def finish(self) -> int:
        if self.header is None:
            self.write(self.encode(self.sheet.no_answers()))
        self.sheet.stream.flush()
        return len(_header_line(self.header or []))


def read_header(stream: BinaryIO, path: str) -> tuple[list[str], int, int]:
    """The names in the first line that is not blank, the byte behind it, and the line of that. Raises Setup ``broken_file``."""
    block = stream.read(BLOCK_BYTES)
    start = len(BOM) if block.startswith(BOM) else 0
    rows = block[start:]
    quotes = find_quotes(rows, last=len(block) < BLOCK_BYTES)
    ends = csv_ends(rows, quotes)
    stop = int(ends[0]) if len(ends) else len(rows)
    fault = min([*quotes.faults, quotes.open if quotes.open is not None else stop])
    if fault < stop:
        where = f"the quote opened in line {count_lines(rows[:fault]) + 1}"
        raise Setup("broken_file", f"{path} has a header that cannot be read: {where} {NOT_CLOSED}")
    try:
        line = rows[:stop].decode("utf-8")
        header = next((row for row in csv.reader(io.StringIO(line.strip("\r\n"), newline="")) if row), None)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Setup("broken_file", f"{path} has a header that cannot be read: {error}: save it as CSV in UTF-8") from error
    if header is None:
        raise Setup("broken_file", f"{path} is empty: the first row of a CSV file names its columns")
    return [name.strip() for name in header], start + stop, count_lines(rows[:stop]) + 1


def _refuse_other_separators(header: Sequence[str], source: Source) -> None:
    """One column whose name holds another separator is a table that was saved with that one."""
    known = {spec.name for spec in source.signature.inputs} | set(source.map.values())
    found = next((mark for mark in ";\t|" if mark in header[0]), None)
    if len(header) == 1 and found and header[0] not in known:
        shown = "tabs" if found == "\t" else found
        raise Setup("broken_file", f"{source.path} is separated by {shown}: this reads commas. Save it with commas, in UTF-8")


def _number(first: int, count: int, refused: deque[BadRow]) -> tuple[Numbers, tuple[BadRow, ...]]:
    """The numbers of the next ``count`` rows, where rows that were refused before or between them keep theirs."""
    bad: list[BadRow] = []
    numbers = np.arange(first, first + count)
    while refused and refused[0].row <= first + count + len(bad):
        skipped = refused.popleft()
        numbers[skipped.row - first - len(bad) :] += 1
        bad.append(skipped)
    return numbers, tuple(bad)


def _spread(name: str, column: Any) -> Iterator[tuple[str, Any]]:
    """A tensor as a column for each of its elements; each column as Arrow has it."""
    if isinstance(column, pa.Array):
        yield name, as_text(column) if pa.types.is_nested(column.type) else column
        return
    values: Array = np.asarray(column)
    if values.ndim == 1:
        yield name, to_arrow(values, name)
        return
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
    for i in range(flat.shape[1]):
        yield f"{name}_{i}", to_arrow(flat[:, i], name)


def _header_line(names: Sequence[str]) -> bytes:
    quoted = ['"' + name.replace('"', '""') + '"' if any(mark in name for mark in ',"\r\n') else name for name in names]
    return (",".join(quoted) + "\n").encode()
