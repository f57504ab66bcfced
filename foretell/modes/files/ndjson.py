"""NDJSON: one JSON object a line; NaN and the infinities are the strings "NaN", "Infinity" and "-Infinity" both ways."""

import base64
import contextlib
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np
import orjson

from foretell.errors import Broken, Setup
from foretell.modes.files.columns import Binding, bind
from foretell.modes.files.nested import even, fill, nested
from foretell.modes.files.rows import STANDARD, Answers, BadRow, Chunk, Numbers, Rows, Sheet, Source, leading_columns
from foretell.modes.files.selection import kept_columns, selection_of
from foretell.plugins import needs_extra
from foretell.tensors import Array, Datatype, TensorSpec

BLOCK_BYTES = 2**20
LONGEST_LINE_BYTES = 256 * 2**20
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_Float = float | None | Literal["NaN", "Infinity", "-Infinity"]


class Base64(msgspec.Struct):
    """Bytes that are not text, as TensorFlow Serving writes them: ``{"b64": "..."}``."""

    b64: bytes


def read(source: Source) -> "NdjsonReader":
    """Opens the file and matches its columns: the keys of the first chunk of rows. Raises Setup."""
    with contextlib.ExitStack() as on_refusal:
        stream = sys.stdin.buffer if source.path == STANDARD else on_refusal.enter_context(source.path.open("rb"))
        length = None
        if source.shard is not None:
            stream.seek(source.shard.start)
            length = source.shard.stop - source.shard.start
        lines = split_lines(stream, source, length)
        first: list[bytes] = []
        if source.shard is not None:
            keys = {name: name in source.shard.lists for name in source.shard.columns}
        else:
            first = list(itertools.islice(lines, source.chunk_rows))
            keys = keys_of(first)
        bindings = bind(source, list(keys)) if keys else tuple(Binding(spec, (spec.name,)) for spec in source.signature.inputs)
        reader = NdjsonReader(source, stream, itertools.chain(first, lines), bindings, keys)
        on_refusal.pop_all()
    return reader


class NdjsonReader:
    """Rows of an NDJSON file. Lines that are blank are no rows; keys that no input needs are passed over."""

    def __init__(
        self, source: Source, stream: BinaryIO, lines: Iterator[bytes], bindings: Sequence[Binding], keys: dict[str, bool]
    ) -> None:
        self.source = source
        self.stream = stream
        self.lines = lines
        self.bindings = bindings
        self.kept = kept_columns(source, list(keys))
        self.selection = selection_of(source)
        self.row = msgspec.json.Decoder(_row_type(bindings, keys))
        self.raw = RawColumns(self.kept)
        self.selection.columns(list(keys))

    def chunks(self) -> Iterator[Chunk]:
        first = self.source.first_row
        while lines := list(itertools.islice(self.lines, self.source.chunk_rows)):
            yield Chunk(np.arange(first, first + len(lines)), lines, None)
            first += len(lines)

    def decode(self, chunk: Chunk) -> Rows:
        bad: dict[int, BadRow] = {}
        chunk, passed_over = self._choose(chunk)
        rows = self._decode_lines(chunk.raw, chunk.numbers, bad)
        numbers = np.delete(chunk.numbers, list(bad)) if bad else chunk.numbers
        fresh: dict[int, BadRow] = {}
        arrays = {binding.spec.name: _column(at, binding, rows, numbers, fresh) for at, binding in enumerate(self.bindings)}
        good = [line for place, line in enumerate(chunk.raw) if place not in bad] if self.kept else []
        kept = self.raw.of(good)
        return Rows(numbers, arrays, tuple(bad.values()), kept=kept, passed_over=passed_over).without(fresh)

    def close(self) -> None:
        if self.source.path != STANDARD:
            self.stream.close()

    def _choose(self, chunk: Chunk) -> tuple[Chunk, int]:
        """The wanted rows of a chunk, and how many it has besides."""
        broken: set[int] = set()
        wanted = self.selection.mask(chunk.numbers, lambda name: RawColumns([name]).values(chunk.raw, broken))
        if wanted is None:
            return chunk, 0
        wanted[list(broken)] = True  # they cannot be looked into: they are bad rows, not rows that did not pass
        lines = [line for line, is_wanted in zip(chunk.raw, wanted, strict=True) if is_wanted]
        return replace(chunk, numbers=chunk.numbers[wanted], raw=lines), len(wanted) - len(lines)

    def _decode_lines(self, lines: list[bytes], numbers: Numbers, bad: dict[int, BadRow]) -> list[Any]:
        decode = self.row.decode
        try:
            return [decode(line) for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        rows = []
        for place, line in enumerate(lines):
            try:
                rows.append(decode(line))
            except msgspec.ValidationError as error:
                bad[place] = BadRow(int(numbers[place]), "bad_row", f"the row does not fit the model: {error}")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                bad[place] = BadRow(int(numbers[place]), "invalid_json", f"the line is not one JSON object: {error}")
        return rows


class RawColumns:
    """Some columns of JSON lines as JSON text, whatever they hold; ``null`` where a row has no such key."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        fields = [(f"k{at}", msgspec.Raw, msgspec.Raw(b"null")) for at in range(len(names))]
        rename = {f"k{at}": name for at, name in enumerate(names)}
        self.row = msgspec.json.Decoder(msgspec.defstruct("Kept", fields, rename=rename, gc=False))

    def of(self, lines: Sequence[bytes]) -> dict[str, Array]:
        """Object arrays of bytes, one for each column. Raises msgspec.MsgspecError for a line that is no object."""
        if not self.names:
            return {}
        rows = [self.row.decode(line) for line in lines]
        columns: dict[str, Array] = {name: np.empty(len(rows), dtype=np.object_) for name in self.names}
        for at, name in enumerate(self.names):
            columns[name][:] = [bytes(getattr(row, f"k{at}")) for row in rows]
        return columns

    def values(self, lines: Sequence[bytes], broken: set[int]) -> Any:
        """The only column as an Arrow array of numbers, truth values or texts; ``broken`` gets lines that are no objects."""
        with needs_extra("--where", "files"):
            import pyarrow as pa
        found: list[Any] = []
        for place, line in enumerate(lines):
            try:
                row: Any = self.row.decode(line)
                value = msgspec.json.decode(row.k0)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                value = None
                broken.add(place)
            found.append(value if isinstance(value, str | bool | int | float) else None)
        kinds = {type(value) for value in found if value is not None}
        if kinds <= {int, float}:
            return pa.array([None if value is None else float(value) for value in found], pa.float64())
        if kinds == {bool}:
            return pa.array(found, pa.bool_())
        return pa.array([None if value is None else str(value) for value in found], pa.string())


class NdjsonWriter:
    """A JSON object a row: its number, its file name if it is a file, then each output, tensors as nested lists."""

    def __init__(self, sheet: Sheet) -> None:
        self.stream = sheet.stream

    def encode(self, answers: Answers) -> bytes:
        leading = leading_columns(answers)
        columns = {**leading, **answers.outputs}
        kept = list(leading)[len(leading) - len(answers.kept) :]
        if not len(answers.numbers):
            return b""
        keys = [orjson.dumps(name) + b":" for name in columns]
        cells = [kept_tokens(column) if name in kept else _tokens(np.asarray(column), name) for name, column in columns.items()]
        fields = [[key + cell for cell in column] for key, column in zip(keys, cells, strict=True)]
        return b"".join([b"{" + b",".join(row) + b"}\n" for row in zip(*fields, strict=True)])

    def write(self, encoded: bytes) -> None:
        self.stream.write(encoded)

    def finish(self) -> int:
        self.stream.flush()
        return 0


def split_lines(stream: BinaryIO, source: Source, length: int | None = None) -> Iterator[bytes]:
    """The lines that are not blank, of the next ``length`` bytes, without their ends. Raises Setup for one that is too long."""
    rest = b""
    read_block = getattr(stream, "read1", stream.read)
    left = sys.maxsize if length is None else length
    while block := read_block(min(BLOCK_BYTES, left)):
        left -= len(block)
        lines = (rest + block).split(b"\n") if b"\n" in block else [rest + block]
        rest = lines.pop()
        if len(rest) > LONGEST_LINE_BYTES:
            raise Setup(
                "broken_file", f"{source.path} has a line of over {LONGEST_LINE_BYTES} bytes: write one JSON object a line"
            )
        yield from (line for line in lines if line and not line.isspace())
    if rest and not rest.isspace():
        yield rest


def keys_of(lines: Sequence[bytes]) -> dict[str, bool]:
    """Each key of these rows, and whether any row has a list there."""
    keys: dict[str, bool] = {}
    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
    for line in lines:
        try:
            row = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        for key, value in row.items():
            keys[key] = keys.get(key, False) or memoryview(value)[0] == ord("[")
    return keys


def _row_type(bindings: Sequence[Binding], keys: dict[str, bool]) -> Any:
    """A struct with one typed field for each column: ``c0_1`` is the second column of the first input."""
    fields: list[tuple[str, Any]] = []
    rename = {}
    for i, binding in enumerate(bindings):
        for j, column in enumerate(binding.columns):
            plain = binding.side_by_side or not keys.get(column, bool(binding.spec.shape))
            fields.append((f"c{i}_{j}", _field_type(binding.spec, 0 if plain else len(binding.spec.shape))))
            rename[f"c{i}_{j}"] = column
    return msgspec.defstruct("Row", fields, rename=rename, gc=False)


def _field_type(spec: TensorSpec, depth: int) -> Any:
    dtype = spec.dtype
    kind: Any = (
        _Float if dtype.is_float else str | Base64 if dtype is Datatype.BYTES else bool if dtype is Datatype.BOOL else int
    )
    for _ in range(depth):
        kind = list[kind]
    return kind


def _column(at: int, binding: Binding, rows: Sequence[Any], numbers: Numbers, bad: dict[int, BadRow]) -> Array:
    """The array for one input: at once if that works, else row by row."""
    spec = binding.spec
    values = [[getattr(row, f"c{at}_{i}") for row in rows] for i in range(len(binding.columns))]
    if spec.dtype is not Datatype.BYTES:
        try:
            return _whole(values, binding)
        except (ValueError, TypeError, OverflowError):
            pass
    each = list(zip(*values, strict=True)) if binding.side_by_side else values[0]
    return fill(_row_by_row(each, spec, numbers, bad), spec)


def _whole(values: list[list[Any]], binding: Binding) -> Array:
    dtype = binding.spec.dtype
    wide = (
        np.float64
        if dtype.is_float
        else np.bool_
        if dtype is Datatype.BOOL
        else np.uint64
        if dtype is Datatype.UINT64
        else np.int64
    )
    if binding.side_by_side:
        columns = np.array(values, dtype=wide)
        return fill(columns.T, binding.spec)
    return fill(np.array(values[0], dtype=wide), binding.spec)


def _row_by_row(each: Sequence[Any], spec: TensorSpec, numbers: Numbers, bad: dict[int, BadRow]) -> Array:
    rows = np.empty(len(each), dtype=np.object_)
    for place, value in enumerate(each):
        try:
            rows[place] = nested(_plain(value), spec.dtype)
            if spec.dtype.is_integer and rows[place].dtype.kind not in "iu":
                raise OverflowError("a number is outside the range of 64 bits")
        except (ValueError, TypeError, OverflowError) as error:
            rows[place] = np.zeros((), dtype=spec.dtype.numpy)
            bad[place] = BadRow(int(numbers[place]), "bad_row", f"the row does not fit input {spec}: {error}")
    return _unwrap(rows) if spec.dtype is Datatype.BYTES and not spec.shape else even(rows)


def _unwrap(rows: Array) -> Array:
    """Arrays without axes as their elements."""
    flat = np.empty(len(rows), dtype=np.object_)
    flat[:] = [row.item() for row in rows]
    return flat


def _plain(value: Any) -> Any:
    """Base64 objects as their bytes, at any depth."""
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    return value.b64 if isinstance(value, Base64) else value


def kept_tokens(column: Any) -> list[bytes]:
    """A kept column as JSON: what was JSON stays as it is; dates and decimals of Arrow become text, bytes ``{"b64": ...}``."""
    if isinstance(column, np.ndarray):
        return list(column)
    return [orjson.dumps(value, default=_plain_json) for value in column.to_pylist()]


def _plain_json(value: object) -> object:
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else str(value)


def _tokens(array: Array, name: str) -> list[bytes]:
    """The JSON text of each row of an output."""
    tokens = _flat_tokens(array.reshape(-1), name)
    for axis in reversed(range(1, array.ndim)):
        size = array.shape[axis]
        lists = math.prod(array.shape[:axis])
        tokens = [b"[" + b",".join(tokens[i * size : (i + 1) * size]) + b"]" for i in range(lists)]
    return tokens


def _flat_tokens(flat: Array, name: str) -> list[bytes]:
    if flat.dtype.kind in "OSU":
        return [_text(element, name) for element in flat.tolist()]
    if not len(flat):
        return []
    if flat.dtype.kind not in "biuf":
        flat = flat.astype(np.float32)
    tokens = orjson.dumps(np.ascontiguousarray(flat), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    if flat.dtype.kind == "f":
        for place in np.flatnonzero(~np.isfinite(flat)):
            value = float(flat[place])
            tokens[place] = b'"NaN"' if np.isnan(value) else b'"Infinity"' if value > 0 else b'"-Infinity"'
    return tokens


def _text(element: bytes | str, name: str) -> bytes:
    try:
        return orjson.dumps(element.decode() if isinstance(element, bytes) else str(element))
    except (UnicodeDecodeError, orjson.JSONEncodeError) as error:
        raise Broken(
            "wrong_output", f"output {name!r} is not UTF-8 text, which is all that NDJSON can hold: write to .parquet"
        ) from error
