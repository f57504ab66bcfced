"""Parquet: read in batches through a small buffer, written in row groups of a bounded size."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from foretell.errors import Setup
from foretell.modes.files.cells import Cells, check_type
from foretell.modes.files.columns import Binding, bind, needed
from foretell.modes.files.outputs import to_arrow
from foretell.modes.files.rechunk import rechunk
from foretell.modes.files.rows import Answers, Chunk, Rows, Sheet, Source, leading_columns

BUFFER_BYTES = 2**20
"""Held for each column; without it, and with Arrow's own read-ahead, memory grows with the file."""
GROUP_ROWS = 2**17
GROUP_BYTES = 64 * 2**20


def read(source: Source) -> "ParquetReader":
    """Opens the file, matches its columns and their types. Raises Setup."""
    try:
        file = pa.parquet.ParquetFile(source.path, buffer_size=BUFFER_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise Setup("broken_file", f"{source.path} cannot be read as Parquet: {error}") from error
    with contextlib.ExitStack() as on_refusal:
        on_refusal.callback(file.close)
        bindings = bind(source, file.schema_arrow.names)
        _check_types(file.schema_arrow, bindings)
        on_refusal.pop_all()
    return ParquetReader(source, file, bindings)


def _check_types(schema: Any, bindings: Sequence[Binding]) -> None:
    for binding in bindings:
        for name in binding.columns:
            check_type(name, schema.field(name).type, binding.spec)


class ParquetReader:
    """Rows of a Parquet file; only the columns that the model needs are read."""

    def __init__(self, source: Source, file: Any, bindings: Sequence[Binding]) -> None:
        self.source = source
        self.file = file
        self.columns = needed(bindings)
        self.cells = Cells(bindings, text=False)

    def chunks(self) -> Iterator[Chunk]:
        first = 0
        total = self.file.metadata.num_rows
        for table in rechunk(self._batches(), self.source.chunk_rows):
            numbers = np.arange(first, first + table.num_rows)
            first += table.num_rows
            yield Chunk(numbers, table, first / total)

    def decode(self, chunk: Chunk) -> Rows:
        return self.cells.decode(chunk.raw, chunk.numbers)

    def close(self) -> None:
        self.file.close()

    def _batches(self) -> Iterator[Any]:
        try:
            yield from self.file.iter_batches(batch_size=self.source.chunk_rows, columns=self.columns)
        except (pa.ArrowException, OSError) as error:
            raise Setup("broken_file", f"{self.source.path} cannot be read to its end: {error}") from error


class ParquetWriter:
    """A column for each output, tensors as lists. Rows are held back until they fill a row group."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.writer: Any = None
        self.held: list[Any] = []

    def encode(self, answers: Answers) -> Any:
        columns = {**leading_columns(answers), **answers.outputs}
        return pa.table({name: to_arrow(np.asarray(values), name) for name, values in columns.items()})

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

    def finish(self) -> None:
        if self.writer is None:
            self.write(self.encode(self.sheet.no_answers()))
        self._write_group()
        self.writer.close()
        self.sheet.stream.flush()

    def _write_group(self) -> None:
        if self.held:
            self.writer.write_table(pa.concat_tables(self.held))
            self.held = []
