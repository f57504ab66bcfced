"""Rows that are given: those of a file, in the forms that the row door takes, or the server's own example."""

import http.client
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from foretell.bench.bodies import Model
from foretell.bench.network import Address
from foretell.errors import Invalid, Setup
from foretell.modes.http.misfit import missing_column
from foretell.modes.http.numbers import decode_data
from foretell.modes.http.rows import Column
from foretell.tensors import Array, Arrays, Datatype, TensorSpec, cast

LINES = (".ndjson", ".jsonl")
SUFFIXES = (".json", *LINES, ".npy")
TABLES = (".csv", ".tsv", ".npz", ".parquet", ".arrow", ".feather", ".xlsx")
MOST_BYTES_OF_AN_EXAMPLE = 2**26
EXAMPLE_WITHIN_S = 30.0


class Tensor(msgspec.Struct):
    """One input of the example that a server shows."""

    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw
    parameters: dict[str, Any] = {}


class Example(msgspec.Struct):
    """The body of an infer request."""

    inputs: list[Tensor]


def read_rows(model: Model, path: Path, rows: int) -> list[Arrays]:
    """The rows of a file, ``rows`` of them to a request; too few go round, what is left over is not sent.

    A .json or .ndjson file holds rows as the row door takes them, an .npy file the one input of the model. Any other file is
    the one value of a model that takes a text or a picture. Raises Setup ``broken_file``.
    """
    specs, has_rows = _specs(model)
    try:
        arrays = _read(specs, path, has_rows=has_rows)
    except OSError as error:
        raise Setup("broken_file", f"{path} cannot be read: {error.strerror or error}") from error
    except Invalid as error:
        raise Setup("broken_file", f"{path} does not hold rows for {model.name}: {error.message}") from error
    count = len(next(iter(arrays.values())))
    if not count:
        raise Setup("broken_file", f"{path} has no rows: write at least one")
    if not has_rows:
        return [{name: array[at] for name, array in arrays.items()} for at in range(count)]
    if count < rows:
        return [{name: array[np.arange(rows) % count] for name, array in arrays.items()}]
    return [{name: array[at * rows : (at + 1) * rows] for name, array in arrays.items()} for at in range(count // rows)]


def example_rows(model: Model, address: Address, rows: int) -> list[Arrays]:
    """One request of the row that a foretell server shows on its page, because the model answers it; none without one."""
    line = http.client.HTTPConnection(address.host, address.port, timeout=EXAMPLE_WITHIN_S)
    try:
        line.request("GET", f"/docs/examples/{quote(model.name, safe='')}/infer")
        answer = line.getresponse()
        body = answer.read(MOST_BYTES_OF_AN_EXAMPLE)
        if answer.status != http.client.OK:
            return []
        arrays = {each.name: _decoded(each) for each in msgspec.json.decode(body, type=Example).inputs}
    except (OSError, http.client.HTTPException, msgspec.MsgspecError, ValueError, Invalid):
        return []
    finally:
        line.close()
    return [{name: np.repeat(array, rows, axis=0) for name, array in arrays.items()} if _specs(model)[1] else arrays]


def _decoded(tensor: Tensor) -> Array:
    as_base64 = tensor.parameters.get("content_type") == "base64"
    return decode_data(bytes(tensor.data), Datatype(tensor.datatype), tensor.name, as_base64=as_base64).reshape(tensor.shape)


def _specs(model: Model) -> tuple[list[TensorSpec], bool]:
    """The inputs as one row has them, and whether a request holds rows: then the first axis of all is of any length."""
    shapes = [[None if int(size) < 0 else int(size) for size in each["shape"]] for each in model.inputs]
    has_rows = all(shape and shape[0] is None for shape in shapes)
    named = zip(model.inputs, shapes, strict=True)
    return [
        TensorSpec(each["name"], Datatype(each["datatype"]), tuple(shape[1:] if has_rows else shape)) for each, shape in named
    ], has_rows


def _read(specs: Sequence[TensorSpec], path: Path, *, has_rows: bool) -> dict[str, Array]:
    """Raises OSError and Invalid."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _read_npy(specs, path, has_rows=has_rows)
    body = path.read_bytes()
    if suffix == ".json" or suffix in LINES:
        return _read_json(specs, body, lines=suffix in LINES)
    if suffix in TABLES or len(specs) != 1 or specs[0].dtype is not Datatype.BYTES or specs[0].shape:
        raise Invalid("bad_row", f"rows are read from {', '.join(SUFFIXES)}, not from {suffix or 'a file without suffix'!r}")
    only = np.empty(1, dtype=np.object_)
    only[0] = body
    return {specs[0].name: only}


def _read_npy(specs: Sequence[TensorSpec], path: Path, *, has_rows: bool) -> dict[str, Array]:
    if len(specs) > 1:
        raise Invalid("bad_row", f"an .npy file holds one input, the model takes {len(specs)}: write them as .json")
    (spec,) = specs
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise Invalid("bad_row", "it is no .npy file of numbers or texts") from error
    if array.dtype.kind not in "biufSU":
        raise Invalid("wrong_dtype", f"its numpy dtype {array.dtype} is none of numbers, texts or bytes")
    if not has_rows and array.ndim == len(spec.shape):
        array = array[np.newaxis]
    if not array.ndim:
        raise Invalid("wrong_shape", "it holds one value, and no axis of rows")
    return {spec.name: cast(array, spec.dtype, spec.name, rounding=True)}


def _read_json(specs: Sequence[TensorSpec], body: bytes, *, lines: bool) -> dict[str, Array]:
    if not body.strip():
        raise Invalid("bad_row", "it is empty")
    try:
        table = [msgspec.Raw(line) for line in body.splitlines() if line.strip()] if lines else _table(body)
        rows = [_values(specs, bytes(row), number) for number, row in enumerate(table)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("invalid_json", f"it is not valid JSON: {error}") from error
    columns = {spec.name: Column(spec) for spec in specs}
    return {
        name: column.stack([_value(column, row[name], number) for number, row in enumerate(rows)])
        for name, column in columns.items()
    }


def _table(body: bytes) -> Sequence[msgspec.Raw]:
    if body.lstrip()[:1] == b"[":
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    return [msgspec.json.decode(body, type=msgspec.Raw)]


def _values(specs: Sequence[TensorSpec], row: bytes, number: int) -> Mapping[str, msgspec.Raw]:
    """The value of each input in a row: an object, or the bare value of the one input."""
    names = [spec.name for spec in specs]
    found = msgspec.json.decode(row, type=dict[str, msgspec.Raw]) if row.lstrip()[:1] == b"{" else None
    if len(names) == 1 and (found is None or ("b64" in found and names[0] not in found)):
        return {names[0]: msgspec.Raw(row)}
    if found is None:
        raise Invalid(
            "bad_row", f"row {number}: a row must be an object, with the model's inputs as its keys: {', '.join(names)}"
        )
    for name in names:
        if name not in found:
            others = [key for key in found if key not in names]
            raise Invalid("bad_row", f"row {number}: {missing_column(name, others)}")
    return found


def _value(column: Column, raw: msgspec.Raw, number: int) -> Any:
    try:
        return column.read_one(bytes(raw))
    except Invalid as error:
        raise Invalid(error.code, f"row {number}: {error.message}") from error
