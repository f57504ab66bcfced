"""The row door, for people and programs without tensors: JSON rows, one image or text, CSV, NDJSON.

A row is an object with the pipeline's inputs as keys; with one input it may be that input's bare value. The answer is
``{"model_name", "model_version", "predictions": [{output: value}, ...]}``, one prediction for each row.
"""

import base64
import binascii
import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from foretell.engine.engine import Engine
from foretell.errors import Invalid, Setup, Unsupported
from foretell.modes.http.misfit import EMPTY, NO_ROWS, ONE_LINE, explain_quote, explain_rows, explain_value, missing_column
from foretell.modes.http.numbers import NotFinite, spell_out, to_array
from foretell.request import Request
from foretell.tensors import Array, Arrays, Datatype, Signature, TensorSpec

JSON = b"application/json"
BYTES = b"application/octet-stream"
FORMS = (b"multipart/form-data", b"application/x-www-form-urlencoded")
"""What curl sends with -F, and with --data-binary when it is not told the content type."""
_BF16 = Datatype.BF16.numpy
_BASE64 = re.compile(rb'\{\s*"b64"\s*:')
SAGEMAKER = {b"application/x-image": b"image/x", b"application/jsonlines": b"application/x-ndjson"}
"""What SageMaker's clients call an image and NDJSON."""
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Base64(msgspec.Struct):
    """Bytes that are not text, in a JSON row: ``{"b64": "..."}``."""

    b64: str


class RowDoor:
    """Reads rows for one engine and writes its answers."""

    json_only = False

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.signature = engine.pipeline.signature
        self.columns = [Column(spec) for spec in self.signature.inputs]
        fields = [(f"f{index}", column.kind) for index, column in enumerate(self.columns)]
        names = {f"f{index}": column.spec.name for index, column in enumerate(self.columns)}
        try:
            row: Any = msgspec.defstruct("Row", fields, rename=names)  # what no input needs is passed over
        except ValueError as error:
            text = f"an input of model {engine.name!r} has a quote, a backslash or a control character in its name: rename it"
            raise Setup("broken_pipeline", text) from error
        self._one = msgspec.json.Decoder(row)
        self._many = msgspec.json.Decoder(list[row])
        bare: Any = self.columns[0].kind
        self._bare = msgspec.json.Decoder(list[bare])
        self._head = orjson.dumps({"model_name": engine.name, "model_version": engine.version})[:-1]

    def read(self, body: bytes, content_type: bytes, received: float, total_s: float) -> Request:
        """The rows in a body of that content type. Raises Invalid or Unsupported."""
        media = content_type.partition(b";")[0].strip().lower() or self._guess(body)
        inputs = self._reader(media)(body)
        if not self.signature.rows:
            counts = {name: len(array) for name, array in inputs.items()}
            if set(counts.values()) != {1}:
                raise Invalid("wrong_rows", f"this model takes one row a request, got {counts}", expected=1, got=counts)
            inputs = {name: array[0] for name, array in inputs.items()}
        return Request(inputs, received, received + total_s, mode="http")

    def write(self, request: Request, outputs: Arrays) -> bytes:
        """One prediction a row, as JSON."""
        return self.write_under(self._head + b",", outputs)

    def write_under(self, head: bytes, outputs: Arrays) -> bytes:
        """The predictions in an object that begins with ``head``."""
        if not self.signature.rows:
            outputs = {name: array[np.newaxis] for name, array in outputs.items()}
        return b'%b"predictions":%b}' % (head, dump(predictions(outputs)))

    def _guess(self, body: bytes) -> bytes:
        """The content type of a body that came with none: JSON, or what this model takes as a whole file."""
        return BYTES if self._takes_media and body.lstrip(b" \t\r\n")[:1] not in (b"{", b"[", b"") else JSON

    def _reader(self, media: bytes) -> Callable[[bytes], dict[str, Array]]:
        readers = {JSON: self.read_json, b"application/x-ndjson": self._read_ndjson}
        media = SAGEMAKER.get(media, media)
        if not any(column.spec.shape for column in self.columns):
            readers[b"text/csv"] = self._read_csv
        if media in readers:
            return readers[media]
        if self._takes_media and (media.startswith(b"image/") or media in (b"text/plain", BYTES)):
            return self._read_media
        known = [*readers, *([b"image/*", b"text/plain", BYTES] if self._takes_media else [])]
        speaks = ", ".join(name.decode() for name in known)
        got = media.decode("latin-1")[:80]
        text = f"this model does not read {got!r}: send one of {speaks}"
        if media in FORMS:
            text += f"; the body is one file or text as it is, with curl: {self._curl}"
        raise Unsupported("unsupported_content_type", text, supported=speaks, got=got)

    @property
    def _curl(self) -> str:
        """How curl sends a file as it is."""
        kind = BYTES if self._takes_media else JSON
        return f"-H 'content-type: {kind.decode()}' --data-binary @FILE"

    @property
    def _takes_media(self) -> bool:
        return len(self.columns) == 1 and self.columns[0].spec.dtype is Datatype.BYTES and not self.columns[0].spec.shape

    def _read_media(self, body: bytes) -> dict[str, Array]:
        array = np.empty(1, dtype=np.object_)
        array[0] = body
        return {self.columns[0].spec.name: array}

    def read_json(self, body: bytes) -> dict[str, Array]:
        """One row or a list of rows, in JSON. Raises Invalid."""
        start = body.lstrip(b" \t\r\n")[:1]
        try:
            if start == b"{":
                return self._stack([self._one.decode(body)])
            rows = body.lstrip(b" \t\r\n")[1:].lstrip(b" \t\r\n")
            if start == b"[" and rows.startswith(b"]"):
                raise Invalid("wrong_rows", NO_ROWS, expected="at least 1 row", got=0)
            if len(self.columns) == 1 and (not rows.startswith(b"{") or self._is_bare_base64(rows)):
                return {self.columns[0].spec.name: self.columns[0].stack(self._bare.decode(body))}
            return self._stack(self._many.decode(body))
        except msgspec.ValidationError as error:
            raise explain_rows(error, body, self.signature.inputs) from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid("invalid_json", f"the body is not valid JSON: {error}" if start else EMPTY) from error

    def _is_bare_base64(self, rows: bytes) -> bool:
        """Whether the first row is the one input's bytes, and not an object with that input as its key."""
        spec = self.columns[0].spec
        return spec.dtype is Datatype.BYTES and spec.name != "b64" and _BASE64.match(rows) is not None

    def _read_ndjson(self, body: bytes) -> dict[str, Array]:
        lines = [line for line in body.splitlines() if line.strip()]
        try:
            return self.read_json(b"[%b]" % b",".join(lines))
        except Invalid as error:
            if len(lines) > 1 or error.code != "invalid_json":
                raise
            raise Invalid("invalid_json", f"{error.message}; {ONE_LINE}") from error

    def _read_csv(self, body: bytes) -> dict[str, Array]:
        try:
            header, *rows = _split(body.decode("utf-8-sig"))
        except ValueError as error:
            text = "the body is not CSV text in UTF-8 with a header line" if body.strip() else EMPTY
            raise Invalid("invalid_body", text) from error
        for number, row in enumerate(rows):
            if len(row) != len(header):
                text = f"row {number} has {len(row)} cells, the header names {len(header)} columns"
                raise Invalid("bad_row", text, row=number, expected=len(header), got=len(row))
        header = [name.strip() for name in header]
        if not rows:
            text = NO_ROWS if b"\n" in body.strip() else ONE_LINE
            raise Invalid("bad_row", text if body.strip() else EMPTY, expected="a header line, then at least 1 row", got=0)
        self._check_header(header)
        cells = dict(zip(header, zip(*rows, strict=True), strict=True))
        return {column.spec.name: column.parse(cells[column.spec.name]) for column in self.columns}

    def _check_header(self, header: Sequence[str]) -> None:
        """That every input has its column, once; other columns are passed over."""
        names = [column.spec.name for column in self.columns]
        if len(header) == 1 and ";" in header[0] and header != names:
            raise Invalid("bad_row", "the CSV is separated by ;: this reads commas", expected=",", got=";")
        for name in names:
            if header.count(name) > 1:
                raise Invalid("bad_row", f"two columns are named {name!r}: rename one", input=name)
            if name not in header:
                others = [other for other in header if other not in names]
                raise Invalid("bad_row", missing_column(name, others), input=name)

    def _stack(self, rows: Sequence[Any]) -> dict[str, Array]:
        return {
            column.spec.name: column.stack([getattr(row, f"f{index}") for row in rows])
            for index, column in enumerate(self.columns)
        }


class Column:
    """One input of the signature, as a column of rows."""

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self.kind = _kind_of(spec)
        self._one, self._all = _decoders(self.kind)

    def read_one(self, raw: bytes | memoryview) -> Any:
        """The JSON value of one row, for ``stack``; a bare value stands for lists of one. Raises Invalid."""
        text = bytes(raw).strip()
        axes = len(self.spec.shape)
        if axes and not text.startswith(b"["):
            text = b"[" * axes + text + b"]" * axes
        if not axes and text.startswith(b"["):
            values = self.read_all(text)
            if len(values) == 1:
                return values[0]
        return self._decode(self._one, text)

    def read_all(self, raw: bytes | memoryview) -> Any:
        """The JSON list of all rows' values, for ``stack``. Raises Invalid."""
        return self._decode(self._all, raw)

    def _decode(self, decoder: Any, raw: bytes | memoryview) -> Any:
        name = self.spec.name
        try:
            return decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise explain_value(error, bytes(raw), self.spec) from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid("invalid_json", f"the value of input {name!r} is not valid JSON: {error}", input=name) from error

    def stack(self, values: Sequence[Any]) -> Array:
        """JSON values, one a row, as one array. Raises Invalid."""
        if self.spec.dtype is Datatype.BYTES:
            return _bytes_array(values, self.spec)
        return to_array(values, self.spec.dtype, self.spec.name)

    def parse(self, cells: Sequence[str]) -> Array:
        """CSV cells, one a row; an empty cell of a float column is NaN. Raises Invalid."""
        if self.spec.dtype is Datatype.BYTES:
            return _bytes_array(cells, self.spec)
        read = _cell_reader(self.spec.dtype)
        values = []
        for row, cell in enumerate(cells):
            try:
                values.append(read(cell))
            except (ValueError, KeyError) as error:
                text = f"row {row}: {cell[:40]!r} in column {self.spec.name!r} is not a {self.spec.dtype}"
                raise Invalid("bad_row", text, row=row, input=self.spec.name) from error
        return to_array(values, self.spec.dtype, self.spec.name)


def _split(text: str) -> list[list[str]]:
    """The rows of CSV, the header first. Raises Invalid for a quote that makes one row of several, or is closed amid a cell."""
    rows: list[list[str]] = []
    line = 1
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if row:
                rows.append(row)
            line = reader.line_num + 1
    except csv.Error as error:
        raise explain_quote(error, len(rows) - 1, line) from error
    return rows


def _decoders(kind: Any) -> "tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]":
    """Of one value, and of a list of them."""
    return msgspec.json.Decoder(kind), msgspec.json.Decoder(list[kind])


def _cell_reader(dtype: Datatype) -> Callable[[str], float]:
    if dtype is Datatype.BOOL:
        return lambda cell: _BOOLEANS[cell.strip().lower()]
    return int if dtype.is_integer else lambda cell: float(cell.strip() or "nan")


def _kind_of(spec: TensorSpec) -> Any:
    kind: Any = float | NotFinite if spec.dtype.is_float else int
    if spec.dtype is Datatype.BYTES:
        kind = str | Base64
    elif spec.dtype is Datatype.BOOL:
        kind = bool
    elif spec.dtype.is_float and not spec.shape:
        kind = kind | None  # an empty cell of a table: NaN
    for _ in spec.shape:
        kind = list[kind]
    return kind


def _bytes_array(values: Sequence[Any], spec: TensorSpec) -> Array:
    def flat(value: Any) -> Any:
        return [flat(item) for item in value] if isinstance(value, list) else _to_bytes(value, spec.name)

    array = np.array([flat(value) for value in values], dtype=np.object_)
    if array.ndim != len(spec.shape) + 1:
        raise Invalid(
            "wrong_shape", f"the rows of input {spec.name!r} differ in shape: the model takes {spec}", input=spec.name
        )
    return array


def _to_bytes(value: Any, name: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value.b64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("bad_text", f"input {name!r} has an element that is not base64", input=name) from error


def to_json(array: Array) -> list[Any]:
    """A column as one value a row, for ``dump``; bytes that are not text as ``{"b64": ...}``."""
    if array.dtype == object:
        return [_text(item) for item in array.tolist()]
    if array.dtype.kind in "iub":
        return list(array.tolist())
    if array.dtype == _BF16:
        array = array.astype(np.float32)
    return list(np.ascontiguousarray(array))  # numpy's own floats, which are written with no more digits than they have


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    return value


def predictions(outputs: Arrays) -> list[dict[str, Any]]:
    """One object a row, for ``dump``."""
    columns = [to_json(array) for array in outputs.values()]
    return [dict(zip(outputs, values, strict=True)) for values in zip(*columns, strict=True)]


def dump(value: Any) -> bytes:
    """JSON of rows; NaN and the infinities as strings."""
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return orjson.dumps(spell_out(_plain(value))) if b"null" in text else text


def _plain(value: Any) -> Any:
    """The same without numpy's own kinds."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def example_row(signature: Signature) -> dict[str, Any]:
    """A row of the right form, for documentation: zeros, empty strings, axes of any length being 1 long."""

    def make(spec: TensorSpec, shape: tuple[int | None, ...]) -> Any:
        if shape:
            return [make(spec, shape[1:])] * (shape[0] or 1)
        return "" if spec.dtype is Datatype.BYTES else False if spec.dtype is Datatype.BOOL else 0

    return {spec.name: make(spec, spec.shape) for spec in signature.inputs}
