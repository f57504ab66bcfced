"""NumPy's .npz, a zip of one .npy for each input, read a chunk at a time; and an .npy that cannot be mapped. Never unpickled.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from foretell.errors import Broken, Setup
from foretell.modes.files.nested import fill
from foretell.modes.files.npy import NO_COLUMNS, decoded
from foretell.modes.files.rows import Chunk, Rows, Source
from foretell.modes.files.selection import Mask, kept_columns, refuse_columns, selection_of
from foretell.plugins import did_you_mean, needs_extra
from foretell.storage import Place
from foretell.tensors import Array, Datatype


class ArrayStream:
    """Rows of one array out of a stream that can seek, in C order. Raises ValueError for what is none."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        version = npy_format.read_magic(stream)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        self.shape, fortran, self.dtype = read(stream)
        if (fortran and len(self.shape) > 1) or not self.shape or self.dtype.kind not in "biufSU":
            raise ValueError(f"it is {self.dtype} {list(self.shape)}, not rows of numbers or text in C order")
        self.start = stream.tell()
        self.row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])

    def rows(self, start: int, stop: int) -> Array:
        self.stream.seek(self.start + start * self.row_bytes)
        wanted = (stop - start) * self.row_bytes
        data = self.stream.read(wanted)
        if len(data) < wanted:
            raise ValueError("it ends before its last row")
        return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:])


def open_arrays(path: Place, stack: contextlib.ExitStack) -> dict[str, ArrayStream]:
    """The arrays of an .npz, or the one of an .npy under ``""``. Raises Setup ``broken_file``."""
    try:
        stream = stack.enter_context(path.open("rb"))
        if path.suffix.lower() != ".npz":
            return {"": ArrayStream(stream)}
        archive = stack.enter_context(zipfile.ZipFile(stream))
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        arrays = {name.removesuffix(".npy"): ArrayStream(stack.enter_context(archive.open(name))) for name in names}
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise Setup("broken_file", f"{path} cannot be read: {error}: save arrays of numbers with numpy.savez") from error
    counts = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise Setup("broken_file", f"{path} holds {counts or 'no'} rows: every array needs the same number of them")
    return arrays


def read(source: Source) -> "NpzReader":
    """Opens the file and finds an array for each input, each kept column and each that ``--where`` looks at. Raises Setup."""
    files = contextlib.ExitStack()
    with contextlib.ExitStack() as on_refusal:
        on_refusal.callback(files.close)
        arrays = open_arrays(source.path, files)
        chosen = {}
        for spec in source.signature.inputs:
            name = source.map.get(spec.name, spec.name)
            only = next(iter(arrays)) if len(arrays) == len(source.signature.inputs) == 1 else name
            found = arrays.get(name) or arrays.get(only)
            if found is None:
                hint = did_you_mean(name, list(arrays))
                raise Setup("missing_column", f"input {spec} cannot be filled: {source.path} has no array {name!r}{hint}")
            if (found.dtype.kind in "SU") != (spec.dtype is Datatype.BYTES) or not _fits(found, spec):
                text = f"{source.path} holds {found.dtype} {list(found.shape)} for input {spec}: convert the array"
                raise Setup("missing_column", text)
            chosen[spec.name] = found
        if "" in arrays:
            refuse_columns(source, NO_COLUMNS)
        reader = NpzReader(source, chosen, arrays, files)
        on_refusal.pop_all()
    return reader


class NpzReader:
    """The same rows of several arrays, read one chunk after the other: one for each input, and those by their own names."""

    def __init__(
        self, source: Source, inputs: dict[str, ArrayStream], named: dict[str, ArrayStream], files: contextlib.ExitStack
    ) -> None:
        self.source = source
        self.inputs = inputs
        self.files = files
        self.partition = _partition_of(source)
        self.selection = selection_of(source)
        known = list(dict.fromkeys([*named, *self.partition]))
        self.kept = kept_columns(source, known)
        looked_at = dict.fromkeys([*self.kept, *self.selection.columns(known)])
        self.named = {name: named[name] for name in looked_at if name in named}

    def chunks(self) -> Iterator[Chunk]:
        shard = self.source.shard
        begin, end = (0, next(iter(self.inputs.values())).shape[0]) if shard is None else (shard.start, shard.stop)
        for start in range(begin, end, self.source.chunk_rows):
            stop = min(start + self.source.chunk_rows, end)
            try:
                arrays = dict.fromkeys([*self.inputs.values(), *self.named.values()])
                values = {array: array.rows(start, stop) for array in arrays}
            except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
                raise Setup("broken_file", f"{self.source.path} cannot be read to its end: {error}") from error
            yield Chunk(np.arange(start, stop), values, (stop - begin) / (end - begin))

    def decode(self, chunk: Chunk) -> Rows:
        wanted = self.selection.mask(chunk.numbers, lambda name: self._column(name, chunk, slice(None)))
        keep = slice(None) if wanted is None else wanted
        numbers = chunk.numbers[keep]
        specs = self.source.signature.inputs
        arrays = {spec.name: fill(decoded(chunk.raw[self.inputs[spec.name]][keep], spec), spec) for spec in specs}
        kept = {name: self._column(name, chunk, keep) for name in self.kept}
        return Rows(numbers, arrays, kept=kept, passed_over=len(chunk.numbers) - len(numbers))

    def close(self) -> None:
        self.files.close()

    def _column(self, name: str, chunk: Chunk, keep: Mask | slice) -> Any:
        """Rows of an array, or what the folders say of all rows, for Arrow. Raises Setup."""
        import pyarrow as pa

        from foretell.modes.files.outputs import to_arrow

        if name not in self.named:
            return pa.array([self.partition[name]] * len(chunk.numbers[keep]))
        values = chunk.raw[self.named[name]][keep]
        try:
            return to_arrow(values.astype(values.dtype.newbyteorder("=")), name)
        except Broken as error:
            raise Setup("broken_file", f"array {name!r} of {self.source.path} is not UTF-8 text") from error


def _partition_of(source: Source) -> dict[str, Any]:
    """What the folders say, where it is asked for: it needs Arrow, arrays alone do not."""
    if not (source.keep or source.choice.where):
        return {}
    with needs_extra("--keep and --where", "files"):
        from foretell.modes.files.partitions import partition_of
    return partition_of(source)


def _fits(array: ArrayStream, spec: Any) -> bool:
    return bool(spec.fits(fill(np.empty((1, *array.shape[1:])), spec).shape[1:]))
