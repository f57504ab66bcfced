"""TensorFlow Serving's REST interface: predict in rows and columns, classify, regress, status and metadata.

https://github.com/tensorflow/serving/blob/master/tensorflow_serving/g3doc/api_rest.md
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from foretell.engine.engine import Engine
from foretell.engine.states import IndexEntry, State
from foretell.errors import Invalid
from foretell.modes.http.framed import FramedRequest
from foretell.modes.http.rows import Column, RowDoor, dump, to_json
from foretell.modes.http.status import Answer, Headers
from foretell.pipeline import Pipeline
from foretell.request import Request
from foretell.tensors import Array, Arrays, Datatype, TensorSpec

_HEADERS: Headers = [(b"content-type", b"application/json")]
_SIGNATURES = ("serving_default", "tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress", "")
_DTYPES = {
    Datatype.BOOL: "DT_BOOL",
    Datatype.FP16: "DT_HALF",
    Datatype.BF16: "DT_BFLOAT16",
    Datatype.FP32: "DT_FLOAT",
    Datatype.FP64: "DT_DOUBLE",
    Datatype.BYTES: "DT_STRING",
}
_STATES = {
    State.READY: "AVAILABLE",
    State.LOADING: "LOADING",
    State.UNLOADING: "UNLOADING",
    State.UNAVAILABLE: "END",
}
Raws = dict[str, msgspec.Raw]


class PredictBody(msgspec.Struct):
    """The body of ``:predict``; one of ``instances`` and ``inputs``."""

    signature_name: str = ""
    instances: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()


class ExamplesBody(msgspec.Struct):
    """The body of ``:classify`` and ``:regress``."""

    examples: list[Raws]
    signature_name: str = ""
    context: Raws = {}


_PREDICT = msgspec.json.Decoder(PredictBody)
_EXAMPLES = msgspec.json.Decoder(ExamplesBody)
_NAMED = msgspec.json.Decoder(Raws)


class PredictDoor:
    """``:predict`` of one engine. The answer has the form of the question: rows or columns."""

    json_only = True

    def __init__(self, rows: RowDoor) -> None:
        self.engine = rows.engine
        self.rows = rows
        self.signature = rows.signature

    def read(self, body: bytes, content_type: bytes, received: float, total_s: float) -> Request:
        """The request in a body. Raises Invalid."""
        parsed: PredictBody = _decode(_PREDICT, body)
        _check_signature(parsed.signature_name)
        instances, inputs = memoryview(parsed.instances), memoryview(parsed.inputs)
        if bool(instances) == bool(inputs):
            had = "both" if instances else "neither"
            raise Invalid("invalid_json", f"the body needs either 'instances' or 'inputs', but it has {had}")
        if inputs:
            columns = self._read_columns(bytes(inputs))
            return FramedRequest(columns, received, received + total_s, mode="http", frame=_write_columns)
        if bytes(instances[:1]) != b"[":
            raise Invalid("invalid_json", "'instances' must be a list with one entry for each row")
        return self.rows.read(bytes(instances), b"", received, total_s)

    def write(self, request: Request, outputs: Arrays) -> bytes:
        """The answer to a question in rows: a list of values for a single output, else of objects."""
        if not self.signature.rows:
            outputs = {name: array[np.newaxis] for name, array in outputs.items()}
        columns = {name: _show(name, array) for name, array in outputs.items()}
        (first, *others) = columns.values()
        if not others:
            return b'{"predictions":%b}' % dump(first)
        return b'{"predictions":%b}' % dump(
            [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        )

    def _read_columns(self, raw: bytes) -> dict[str, Array]:
        columns = {column.spec.name: column for column in self.rows.columns}
        if len(columns) == 1 and not raw.startswith(b"{"):
            (only,) = columns.values()
            return {only.spec.name: self._read_column(only, raw)}
        named: Raws = _decode(_NAMED, raw)
        for name in named:
            if name not in columns:
                text = f"there is no input {name[:80]!r}: the model takes {', '.join(columns)}"
                raise Invalid("unknown_input", text, input=name[:80], expected=list(columns))
        return {name: self._read_column(columns[name], value) for name, value in named.items()}

    def _read_column(self, column: Column, raw: bytes | msgspec.Raw) -> Array:
        text = bytes(raw)
        return column.stack(column.read_all(text)) if self.signature.rows else column.stack([column.read_one(text)])[0]


class ExamplesDoor:
    """``:classify`` or ``:regress`` of one engine: ``verb`` says which."""

    json_only = True

    def __init__(self, rows: RowDoor, verb: str) -> None:
        self.engine = rows.engine
        self.columns = rows.columns
        self.signature = rows.signature
        self._compose = {"classify": _classes, "regress": _values}[verb]
        self._check = {"classify": _find_scores, "regress": _find_value}[verb]

    def read(self, body: bytes, content_type: bytes, received: float, total_s: float) -> Request:
        """The request in a body. Raises Invalid, also for a model whose outputs are none of this verb's."""
        parsed: ExamplesBody = _decode(_EXAMPLES, body)
        _check_signature(parsed.signature_name)
        if not self.signature.rows:
            raise Invalid("invalid_body", "this model has no batch axis: ask it by :predict with 'inputs'")
        self._check(self.signature.outputs)
        examples = [{**parsed.context, **example} for example in parsed.examples]
        inputs = {column.spec.name: self._stack(column, examples) for column in self.columns}
        return Request(inputs, received, received + total_s, mode="http")

    def write(self, request: Request, outputs: Arrays) -> bytes:
        """The answer: a list with an entry for each example."""
        return b'{"results":%b}' % dump(self._compose(self.engine.pipeline, outputs))

    def _stack(self, column: Column, examples: Sequence[Mapping[str, msgspec.Raw]]) -> Array:
        name = column.spec.name
        for row, example in enumerate(examples):
            if name not in example:
                raise Invalid("missing_input", f"example {row} has no feature {name!r}", input=name, row=row)
        return column.stack([column.read_one(bytes(example[name])) for example in examples])


def model_status(entries: Sequence[IndexEntry]) -> dict[str, Any]:
    """The status of the versions of one model."""
    return {
        "model_version_status": [
            {
                "version": entry.version,
                "state": _STATES[entry.state],
                "status": {"error_code": "OK", "error_message": ""}
                if entry.state is not State.UNAVAILABLE
                else {"error_code": "UNAVAILABLE", "error_message": entry.reason},
            }
            for entry in entries
        ]
    }


def model_metadata(engine: Engine) -> dict[str, Any]:
    """The one signature of a model, as the text form of the protocol's messages has it."""
    signature = engine.pipeline.signature
    described = {
        "inputs": {spec.name: _tensor_info(spec, rows=signature.rows) for spec in signature.inputs},
        "outputs": {spec.name: _tensor_info(spec, rows=signature.rows) for spec in signature.outputs},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    return {
        "model_spec": {"name": engine.name, "signature_name": "", "version": engine.version},
        "metadata": {"signature_def": {"signature_def": {"serving_default": described}}},
    }


def _tensor_info(spec: TensorSpec, *, rows: bool) -> dict[str, Any]:
    sizes = [*([None] if rows else []), *spec.shape]
    dims = [{"size": "-1" if size is None else str(size), "name": ""} for size in sizes]
    return {
        "dtype": _DTYPES.get(spec.dtype, f"DT_{spec.dtype}"),
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": f"{spec.name}:0",
    }


def _write_columns(outputs: Arrays) -> Answer:
    columns = {name: _show(name, array) if array.ndim else to_json(array.reshape(1))[0] for name, array in outputs.items()}
    shown = columns if len(columns) > 1 else next(iter(columns.values()))
    return Answer(200, _HEADERS, b'{"outputs":%b}' % dump(shown))


def _show(name: str, array: Array) -> list[Any]:
    """A tensor as nested lists; by the protocol's rule, that of a name with ``_bytes`` behind always in base64."""
    return _in_base64(array.tolist()) if name.endswith("_bytes") and array.dtype == object else to_json(array)


def _in_base64(values: Any) -> Any:
    if isinstance(values, list):
        return [_in_base64(value) for value in values]
    return {"b64": base64.b64encode(values).decode()}


def _find_scores(outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, TensorSpec | None]:
    """The output that holds the scores, one for each class, and the one that holds their labels, if any."""
    for scores in outputs:
        if scores.dtype.is_float and len(scores.shape) < 2:
            alike = (spec for spec in outputs if spec.dtype is Datatype.BYTES and spec.shape == scores.shape)
            return scores, next(alike, None)
    shown = ", ".join(map(str, outputs))
    raise Invalid("invalid_body", f"this model gives {shown}, which is no score for each class: ask it by :predict")


def _find_value(outputs: Sequence[TensorSpec]) -> TensorSpec:
    """The first output with one number a row."""
    for spec in outputs:
        if spec.dtype not in (Datatype.BYTES, Datatype.BOOL) and spec.shape in ((), (1,)):
            return spec
    shown = ", ".join(map(str, outputs))
    raise Invalid("invalid_body", f"this model gives {shown}, which is not one number a row: ask it by :predict")


def _classes(pipeline: Pipeline, outputs: Arrays) -> list[Any]:
    scores, labels = _find_scores(pipeline.signature.outputs)
    count = len(outputs[scores.name])
    table = outputs[scores.name].reshape(count, -1)
    known = [*pipeline.labels.get(scores.name, ()), *[""] * table.shape[1]][: table.shape[1]]
    names = to_json(outputs[labels.name].reshape(count, -1)) if labels else [known] * count
    return [[list(pair) for pair in zip(*row, strict=True)] for row in zip(names, map(to_json, table), strict=True)]


def _values(pipeline: Pipeline, outputs: Arrays) -> list[Any]:
    return to_json(outputs[_find_value(pipeline.signature.outputs).name].reshape(-1))


def _check_signature(name: str) -> None:
    if name not in _SIGNATURES:
        text = f"there is no signature {name[:80]!r}: leave out signature_name, or send 'serving_default'"
        raise Invalid("unknown_parameter", text, parameter="signature_name", expected="serving_default", got=name[:80])


def _decode(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).replace("`", "").replace("$", "body")
        raise Invalid("invalid_json", f"the body cannot be read as this route's JSON: {reason}") from error
