"""The tensor door: infer requests of the Open Inference Protocol v2 in JSON.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from functools import lru_cache
from math import prod
from typing import Any

import msgspec
import numpy as np
import orjson

from foretell.engine.engine import Engine
from foretell.errors import Invalid
from foretell.modes.http.numbers import decode_data, encode_base64, encode_data, is_text
from foretell.request import Request
from foretell.tensors import Array, Arrays, Datatype, show_shape


class InferInput(msgspec.Struct):
    """One tensor of a request; ``data`` stays raw until its datatype is known."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw
    parameters: dict[str, Any] = {}


class InferOutput(msgspec.Struct):
    """One output that a request asks for."""

    name: str
    parameters: dict[str, Any] = {}


class InferBody(msgspec.Struct):
    """The body of an infer request."""

    inputs: list[InferInput]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[InferOutput] = []


_BODY = msgspec.json.Decoder(InferBody)
_DATATYPES = {str(datatype): datatype for datatype in Datatype}


class TensorDoor:
    """Reads infer requests for one engine and writes its answers."""

    json_only = True

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        names = orjson.dumps({"model_name": engine.name, "model_version": engine.version})
        self._head = names[:-1]
        self._input_names = [spec.name for spec in engine.pipeline.signature.inputs]
        self._output_names = [spec.name for spec in engine.pipeline.signature.outputs]

    def read(self, body: bytes, content_type: bytes, received: float, total_s: float) -> Request:
        """The request in a body. Raises Invalid."""
        parsed = _decode_body(body)
        inputs: dict[str, Array] = {}
        for tensor in self._known(parsed.inputs):
            if tensor.name in inputs:
                raise Invalid("duplicate_input", f"input {tensor.name[:80]!r} is there twice", input=tensor.name[:80])
            inputs[tensor.name] = read_tensor(tensor)
        request = Request(inputs, received, received + total_s, parsed.id, "http")
        if parsed.parameters:
            request.parameters = parsed.parameters
            request.deadline = min(request.deadline, received + _timeout_s(parsed.parameters, total_s))
        if parsed.outputs:
            request.outputs = self._asked(parsed.outputs)
        return request

    def write(self, request: Request, outputs: Arrays) -> bytes:
        """The body of an answer."""
        tensors = [write_tensor(name, outputs[name]) for name in request.outputs or outputs]
        named = b',"id":%b' % orjson.dumps(request.id) if request.id is not None else b""
        return b'%b%b,"outputs":[%b]}' % (self._head, named, b",".join(tensors))

    def _known(self, tensors: list[InferInput]) -> list[InferInput]:
        """The tensors of a request, refused by name before the data of any is read."""
        for tensor in tensors[: len(self._input_names) + 1]:
            if tensor.name not in self._input_names:
                known = ", ".join(self._input_names)
                text = f"there is no input {tensor.name[:80]!r}: the model takes {known}"
                raise Invalid("unknown_input", text, input=tensor.name[:80], expected=self._input_names)
        return tensors[: len(self._input_names) + 1]

    def _asked(self, outputs: list[InferOutput]) -> tuple[str, ...]:
        for output in outputs:
            if output.name not in self._output_names:
                known = ", ".join(self._output_names)
                text = f"there is no output {output.name[:80]!r}: the model gives {known}"
                raise Invalid("unknown_output", text, output=output.name[:80], expected=self._output_names)
        return tuple(dict.fromkeys(output.name for output in outputs))


def read_tensor(tensor: InferInput) -> Array:
    """One JSON tensor as an array of its shape and datatype; nothing is allocated from the shape that it declares."""
    name = tensor.name[:80]
    datatype = _DATATYPES.get(tensor.datatype)
    if datatype is None:
        known = ", ".join(_DATATYPES)
        text = f"input {name!r} names the datatype {tensor.datatype[:40]!r}: use one of {known}"
        raise Invalid("unknown_datatype", text, input=name, expected=list(_DATATYPES), got=tensor.datatype[:40])
    as_base64 = datatype is Datatype.BYTES and tensor.parameters.get("content_type") == "base64"
    array = decode_data(memoryview(tensor.data), datatype, name, as_base64=as_base64)
    shape = tensor.shape
    if (array.ndim != 1 and list(array.shape) != shape) or array.size != _count(shape, name):
        got = f"{array.size} values" if array.ndim == 1 else f"nested arrays of shape {show_shape(array.shape)}"
        text = f"input {name!r} declares the shape {_shown(shape)}, but its data holds {got}"
        raise Invalid("wrong_shape", text, input=name, expected=_shown(shape), got=list(array.shape))
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:  # no values in axes too long for any array: [0, 2**63]
        text = f"input {name!r} declares the shape {_shown(shape)}, which no array can have"
        raise Invalid("wrong_shape", text, input=name, got=_shown(shape)) from error


def write_tensor(name: str, array: Array) -> bytes:
    """One output tensor as JSON; bytes that are not UTF-8 text go as base64, and say so."""
    if array.dtype == object and not is_text(array):
        parameters, data = b',"parameters":{"content_type":"base64"}', encode_base64(array)
    else:
        parameters, data = b"", encode_data(array)
    shape = ",".join(map(str, array.shape)).encode()
    return b'%b"shape":[%b]%b,"data":%b}' % (_tensor_head(name, array.dtype), shape, parameters, data)


@lru_cache(maxsize=1024)
def _tensor_head(name: str, dtype: np.dtype[np.generic]) -> bytes:
    return orjson.dumps({"name": name, "datatype": str(Datatype.of(dtype))})[:-1] + b","


def _decode_body(body: bytes) -> InferBody:
    try:
        return _BODY.decode(body)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`", "").replace("$", "body")
        raise Invalid("invalid_json", f"the body is not an infer request: {reason}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("invalid_json", f"the body is not valid JSON: {error}") from error


def _shown(shape: list[int]) -> str:
    return show_shape(shape[:16])[:200]


def _count(shape: list[int], name: str) -> int:
    if len(shape) > 32 or min(shape, default=0) < 0:
        text = f"input {name!r} declares the shape {_shown(shape)}: send at most 32 sizes, none of them negative"
        raise Invalid("wrong_shape", text, input=name, got=_shown(shape))
    return prod(shape)


def _timeout_s(parameters: dict[str, Any], total_s: float) -> float:
    """The protocol's ``timeout`` in microseconds; 0 or none means the server's own."""
    timeout = parameters.get("timeout", 0)
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 0:
        text = "the parameter 'timeout' must be a whole number of microseconds, at least 0"
        raise Invalid("unknown_parameter", text, parameter="timeout")
    return min(timeout, 2**63) / 1e6 if timeout else total_s
