"""NumPy's .npy: one tensor, rows on axis 0. Read by memory map a chunk at a time; never unpickled."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from foretell.errors import Broken, Setup
from foretell.modes.files.nested import fill
from foretell.modes.files.rows import Answers, Chunk, Rows, Sheet, Source
from foretell.modes.files.selection import refuse_columns, selection_of
from foretell.storage import Place
from foretell.tensors import Array, Datatype, TensorSpec, show_shape

NO_COLUMNS = "save arrays by name with numpy.savez, as .npz"


def read(source: Source) -> "NpyReader":
    """Opens the file, of this machine, and checks its array against the only input. Raises Setup."""
    inputs = source.signature.inputs
    if len(inputs) != 1:
        raise Setup(
            "missing_column",
            f"an .npy file holds one tensor, the model takes {len(inputs)}: write them as columns of a .parquet file",
        )
    refuse_columns(source, NO_COLUMNS)
    array = open_array(source.path)
    _check_shape(source, inputs[0], array)
    return NpyReader(source, inputs[0], array)


def open_array(path: Place) -> "np.memmap[Any, Any]":
    """The array of a file by memory map. Raises Setup ``broken_file``."""
    try:
        array = np.load(str(path), mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise Setup(
            "broken_file", f"{path} cannot be read as .npy: {error}: save one array of numbers with numpy.save"
        ) from error
    if not isinstance(array, np.memmap) or array.dtype.kind not in "biufSU":
        raise Setup("broken_file", f"{path} does not hold one array of numbers or text: save one with numpy.save")
    return array


class NpyReader:
    """Rows of one array. Each chunk is a map of its own, so that pages that were read are let go."""

    def __init__(self, source: Source, spec: TensorSpec, array: "np.memmap[Any, Any]") -> None:
        self.source = source
        self.spec = spec
        self.array = array

    def chunks(self) -> Iterator[Chunk]:
        shard = self.source.shard
        begin, end = (0, len(self.array)) if shard is None else (shard.start, shard.stop)
        for start in range(begin, end, self.source.chunk_rows):
            stop = min(start + self.source.chunk_rows, end)
            yield Chunk(np.arange(start, stop), slice(start, stop), (stop - begin) / (end - begin))

    def decode(self, chunk: Chunk) -> Rows:
        values, numbers = self._map(chunk.raw), chunk.numbers
        selection = selection_of(self.source)
        wanted = selection.mask(numbers, selection.refuse)
        if wanted is not None:
            values, numbers = values[wanted], numbers[wanted]
        values = decoded(values, self.spec)
        passed_over = len(chunk.numbers) - len(numbers)
        return Rows(numbers, {self.spec.name: fill(values, self.spec)}, passed_over=passed_over)

    def close(self) -> None:
        return None

    def _map(self, rows: slice) -> Array:
        whole = self.array
        if not whole.flags.c_contiguous:
            return np.array(whole[rows])
        shape = (rows.stop - rows.start, *whole.shape[1:])
        row_bytes = whole.itemsize * int(np.prod(whole.shape[1:]))
        return np.memmap(str(self.source.path), whole.dtype, "r", whole.offset + rows.start * row_bytes, shape).view(np.ndarray)


class NpyWriter:
    """The model's only output, without row numbers: a bad row leaves no gap."""

    def __init__(self, sheet: Sheet) -> None:
        if len(sheet.signature.outputs) != 1:
            names = ", ".join(spec.name for spec in sheet.signature.outputs)
            raise Setup("wrong_target", f"an .npy file holds one tensor, the answers are {names}: write to .parquet or .ndjson")
        if sheet.signature.outputs[0].dtype is Datatype.BYTES:
            raise Setup(
                "wrong_target",
                f"an .npy file cannot hold text, the answers are {sheet.signature.outputs[0]}: write to .parquet",
            )
        self.sheet = sheet
        self.rows = 0
        self.kind: tuple[np.dtype[Any], tuple[int, ...]] | None = None

    def encode(self, answers: Answers) -> Array:
        if len(answers.outputs) != 1:
            raise Broken("wrong_output", f"the pipeline gave {len(answers.outputs)} outputs, its signature says one")
        values = next(iter(answers.outputs.values()))
        return np.ascontiguousarray(values if values.dtype.kind in "biuf" else values.astype(np.float32))

    def write(self, encoded: Array) -> None:
        kind = (encoded.dtype, encoded.shape[1:])
        if self.kind is None:
            self.kind = kind
            self._write_header()
        if kind != self.kind:
            shapes = f"{show_shape(self.kind[1])} to {show_shape(kind[1])}"
            raise Setup(
                "wrong_target",
                f"the answers change their shape from {shapes}, which .npy cannot hold: write to .parquet or .ndjson",
            )
        self.rows += len(encoded)
        self.sheet.stream.write(encoded.data if encoded.size else b"")

    def finish(self) -> int:
        if self.kind is None:
            self.write(self.encode(self.sheet.no_answers()))
        self.sheet.stream.seek(0)
        self._write_header()  # numpy leaves room in it for any number of rows
        self.sheet.stream.flush()
        return self.sheet.stream.tell()

    def _write_header(self) -> None:
        dtype, shape = self.kind or (np.dtype(np.float32), ())
        header = {"descr": npy_format.dtype_to_descr(dtype), "fortran_order": False, "shape": (self.rows, *shape)}
        npy_format.write_array_header_1_0(self.sheet.stream, header)


def _check_shape(source: Source, spec: TensorSpec, array: Array) -> None:
    text = array.dtype.kind in "SU"
    if array.ndim == 0 or text != (spec.dtype is Datatype.BYTES) or not spec.fits(fill(np.asarray(array[:1]), spec).shape[1:]):
        expected = show_shape((None, *spec.shape))
        raise Setup(
            "missing_column",
            f"{source.path} holds {array.dtype} {show_shape(array.shape)}, the model takes {spec.dtype} {expected}",
        )


def decoded(values: Array, spec: TensorSpec) -> Array:
    """Whole numbers for a float input as FP64, so that they may be rounded like all floats of files; texts as bytes."""
    if values.dtype.kind in "SU":
        return _encoded(values)
    return values.astype(np.float64) if values.dtype.kind in "iu" and spec.dtype.is_float else values


def _encoded(values: Array) -> Array:
    encoded = np.empty(values.shape, dtype=np.object_)
    encoded.reshape(-1)[:] = [
        value if isinstance(value, bytes) else str(value).encode() for value in values.reshape(-1).tolist()
    ]
    return encoded
