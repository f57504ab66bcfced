"""Parquet: read in batches through a small buffer, written in row groups of a bounded size."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from foretell.errors import Setup
from foretell.modes.files.cells import Cells, check_type
from foretell.modes.files.columns import Binding, bind, needed
from foretell.modes.files.outputs import to_arrow, with_arrow
from foretell.modes.files.partitions import partition_of, with_partition
from foretell.modes.files.rechunk import rechunk
from foretell.modes.files.rows import Answers, Chunk, Rows, Sheet, Source, leading_columns
from foretell.modes.files.selection import kept_columns, selection_of
from foretell.storage import Place

BUFFER_BYTES = 2**18
"""Held for each column; without it, and with Arrow's own read-ahead, memory grows with the file."""
GROUP_ROWS = 2**17
GROUP_BYTES = 64 * 2**20


def read(source: Source) -> "ParquetReader":
    """Opens the file, matches its columns and their types. Raises Setup."""
    file = open_parquet(source.path)
    with contextlib.ExitStack() as on_refusal:
        on_refusal.callback(file.close)
        bindings = bind(source, file.schema_arrow.names, partition_of(source))
        _check_types(file.schema_arrow, bindings)
        reader = ParquetReader(source, file, bindings)
        on_refusal.pop_all()
    return reader


def open_parquet(path: Place) -> Any:
    """Raises Setup ``broken_file``."""
    try:
        opened = path if isinstance(path, Path) else path.open("rb")
        return pa.parquet.ParquetFile(opened, buffer_size=BUFFER_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise Setup("broken_file", f"{path} cannot be read as Parquet: {error}") from error


def _check_types(schema: Any, bindings: Sequence[Binding]) -> None:
    for binding in bindings:
        for name in set(binding.columns) & set(schema.names):
            check_type(name, schema.field(name).type, binding.spec)


class ParquetReader:
    """Rows of a Parquet file; only the columns that the model needs are read."""

    def __init__(self, source: Source, file: Any, bindings: Sequence[Binding]) -> None:
        self.source = source
        self.file = file
        names = file.schema_arrow.names
        self.partition = partition_of(source)
        known = [*names, *(name for name in self.partition if name not in names)]
        selection, kept = selection_of(source), kept_columns(source, known)
        self.wanted = list(dict.fromkeys([*needed(bindings), *kept, *selection.columns(known)]))
        self.columns = [name for name in self.wanted if name in names]
        self.cells = Cells(bindings, kept, selection, text=False)

    def chunks(self) -> Iterator[Chunk]:
        total = self.file.metadata.num_rows
        start, stop = (0, total) if self.source.shard is None else (self.source.shard.start, self.source.shard.stop)
        first = start
        for table in rechunk(self._batches(start, stop), self.source.chunk_rows):
            numbers = np.arange(first, first + table.num_rows)
            first += table.num_rows
            yield Chunk(numbers, table, (first - start) / (stop - start))

    def decode(self, chunk: Chunk) -> Rows:
        table = with_partition(chunk.raw, self.partition, self.wanted)
        return self.cells.decode(table, chunk.numbers)

    def close(self) -> None:
        self.file.close()

    def _batches(self, start: int, stop: int) -> Iterator[Any]:
        """Rows ``start`` to ``stop`` - 1: of the row groups that hold them, what lies before them is read and let go."""
        groups, skip = groups_of(self.file.metadata, start, stop)
        left = stop - start
        try:
            for batch in self.file.iter_batches(
                batch_size=self.source.chunk_rows, row_groups=groups, columns=self.columns, use_threads=False
            ):
                wanted = batch.slice(min(skip, batch.num_rows), left)
                skip -= batch.num_rows - wanted.num_rows if skip else 0
                left -= wanted.num_rows
                yield wanted
                if not left:
                    break
        except (pa.ArrowException, OSError) as error:
            raise Setup("broken_file", f"{self.source.path} cannot be read to its end: {error}") from error


def groups_of(metadata: Any, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold rows ``start`` to ``stop`` - 1, and how many rows of the first come before them."""
    groups: list[int] = []
    first = skip = 0
    for number in range(metadata.num_row_groups):
        behind = first + metadata.row_group(number).num_rows
        if first < stop and behind > start:
            skip = max(skip, start - first) if not groups else skip
            groups.append(number)
        first = behind
    return groups, skip


class ParquetWriter:
    """A column for each output, tensors as lists. Rows are held back until they fill a row group."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.writer: Any = None
        self.held: list[Any] = []

    def encode(self, answers: Answers) -> Any:
        columns = {**leading_columns(with_arrow(answers)), **answers.outputs}
        return pa.table({name: _column(values, name) for name, values in columns.items()})

    def write(self, encoded: Any) -> None:
        if self.writer is None:
            texts = [field.name for field in encoded.schema if pa.types.is_string(field.type)]
            self.writer = pa.parquet.ParquetWriter(self.sheet.stream, encoded.schema, use_dictionary=texts)
        if encoded.schema != self.writer.schema:
            raise Setup(
                "wrong_target", f"the answers change from {self.writer.schema} to {encoded.schema}: correct the last step"
            )
        self.held.append(encoded)
        if sum(len(table) for table in self.held) >= GROUP_ROWS or sum(table.nbytes for table in self.held) >= GROUP_BYTES:
            self._write_group()

    def finish(self) -> int:
        if self.writer is None:
            self.write(self.encode(self.sheet.no_answers()))
        self._write_group()
        self.writer.close()
        self.sheet.stream.flush()
        return 0

    def _write_group(self) -> None:
        if self.held:
            self.writer.write_table(pa.concat_tables(self.held))
            self.held = []


def _column(values: Any, name: str) -> Any:
    return values if isinstance(values, pa.Array) else to_arrow(np.asarray(values), name)
