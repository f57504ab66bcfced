"""Infer messages of the Open Inference Protocol for one engine: messages to arrays and back.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from foretell.elements import read_elements, write_elements
from foretell.engine.classify import check_classes, classify
from foretell.engine.engine import Engine
from foretell.engine.parameters import read_parameters
from foretell.errors import Invalid
from foretell.modes.grpc.stubs.inference_pb2 import ModelInferRequest, ModelInferResponse
from foretell.request import Request
from foretell.tensors import Array, Arrays, Datatype, cast, show_shape

_DATATYPES = {str(datatype): datatype for datatype in Datatype}
_CONTENTS: dict[Datatype, tuple[str, Datatype]] = {
    # datatype: the field of typed contents that holds it, and the datatype of that field
    Datatype.BOOL: ("bool_contents", Datatype.BOOL),
    Datatype.INT8: ("int_contents", Datatype.INT32),
    Datatype.INT16: ("int_contents", Datatype.INT32),
    Datatype.INT32: ("int_contents", Datatype.INT32),
    Datatype.INT64: ("int64_contents", Datatype.INT64),
    Datatype.UINT8: ("uint_contents", Datatype.UINT32),
    Datatype.UINT16: ("uint_contents", Datatype.UINT32),
    Datatype.UINT32: ("uint_contents", Datatype.UINT32),
    Datatype.UINT64: ("uint64_contents", Datatype.UINT64),
    Datatype.FP32: ("fp32_contents", Datatype.FP32),
    Datatype.FP64: ("fp64_contents", Datatype.FP64),
    Datatype.BYTES: ("bytes_contents", Datatype.BYTES),
}
_MOST_AXES = 32
_SHARED_MEMORY = "shared_memory_region"


class TensorDoor:
    """Reads infer messages for one engine and writes its answers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        signature = engine.pipeline.signature
        self._head = ModelInferResponse(model_name=engine.name, model_version=engine.version).SerializeToString()
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = {spec.name: spec for spec in signature.outputs}
        self._rows = signature.rows

    def read(self, message: ModelInferRequest, received: float, total_s: float) -> tuple[Request, dict[str, int]]:
        """The request in a message, and the outputs that are to come as so many classes. Raises Invalid."""
        request = Request(self._read_inputs(message), received, received + total_s, message.id or None, "grpc")
        if message.parameters:
            request.parameters = read_map(message.parameters)
            request.deadline = min(request.deadline, received + read_parameters(request.parameters, total_s))
        if not message.outputs:
            return request, {}
        request.outputs = self._asked(message)
        return request, self._classes(message)

    def _classes(self, message: ModelInferRequest) -> dict[str, int]:
        classes = {}
        for output in message.outputs:
            parameters = read_map(output.parameters)
            _refuse_shared_memory(parameters, f"output {output.name[:80]!r}")
            if "classification" in parameters:
                classes[output.name] = check_classes(parameters["classification"], self._outputs[output.name])
        return classes

    def write(self, request: Request, outputs: Arrays, classes: Mapping[str, int]) -> bytes:
        """The serialized answer. Messages merge when they are joined, so that no part of it is built twice."""
        parts = [self._head]
        if request.id is not None:
            parts.append(ModelInferResponse(id=request.id).SerializeToString())
        for name in request.outputs or outputs:
            array = outputs[name]
            if name in classes:
                array = classify(array, classes[name], self.engine.pipeline.labels.get(name, ()), rows=self._rows)
            raw = write_elements(array)
            parts += (_describe(name, array.dtype, array.shape, len(raw)), raw)
        return b"".join(parts)

    def _read_inputs(self, message: ModelInferRequest) -> dict[str, Array]:
        raws = list(message.raw_input_contents)
        if raws and len(raws) != len(message.inputs):
            count = len(message.inputs)
            text = f"there are {len(raws)} raw_input_contents for {count} inputs: send one for each input, in their order"
            raise Invalid("invalid_body", text, expected=count, got=len(raws))
        inputs: dict[str, Array] = {}
        for tensor in message.inputs:
            name = tensor.name
            if name in inputs or name not in self._inputs:
                raise self._not_wanted(name, inputs)
            if tensor.parameters:
                _refuse_shared_memory(tensor.parameters, f"input {name!r}")
            inputs[name] = _read_raw(tensor, raws[len(inputs)]) if raws else _read_contents(tensor)
        return inputs

    def _not_wanted(self, name: str, inputs: Mapping[str, Array]) -> Invalid:
        shown = name[:80]
        if name in inputs:
            return Invalid("duplicate_input", f"input {shown!r} is there twice", input=shown)
        text = f"there is no input {shown!r}: the model takes {', '.join(self._inputs)}"
        return Invalid("unknown_input", text, input=shown, expected=self._inputs)

    def _asked(self, message: ModelInferRequest) -> tuple[str, ...]:
        for output in message.outputs:
            if output.name not in self._outputs:
                text = f"there is no output {output.name[:80]!r}: the model gives {', '.join(self._outputs)}"
                raise Invalid("unknown_output", text, output=output.name[:80], expected=list(self._outputs))
        return tuple(dict.fromkeys([output.name for output in message.outputs]))


def read_map(parameters: Mapping[str, Any]) -> dict[str, object]:
    """A map of parameters as Python values; one without a value is left out."""
    found: dict[str, object] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found


def _read_raw(tensor: ModelInferRequest.InferInputTensor, raw: bytes) -> Array:
    name = tensor.name
    if tensor.HasField("contents") and tensor.contents.ByteSize():  # MLServer's client always sends them, empty
        text = f"input {name!r} has contents, and the request has raw_input_contents too: send all inputs in one of these"
        raise Invalid("invalid_body", text, input=name)
    datatype, shape = _datatype(tensor), _shape(tensor)
    try:
        return read_elements(raw, datatype, shape, name)
    except (ValueError, OverflowError) as error:
        raise _impossible(name, shape) from error


def _read_contents(tensor: ModelInferRequest.InferInputTensor) -> Array:
    """A tensor in typed contents: its one field, with as many values as the shape says."""
    name, datatype, shape = tensor.name, _datatype(tensor), _shape(tensor)
    if datatype not in _CONTENTS:
        text = f"input {name!r}: typed contents have no field for {datatype}: send it in raw_input_contents"
        raise Invalid("invalid_body", text, input=name, expected="raw_input_contents", got="contents")
    field, held = _CONTENTS[datatype]
    for other, _ in tensor.contents.ListFields():
        if other.name != field:
            text = f"input {name!r}: {datatype} is sent in {field}, but the request has {other.name}"
            raise Invalid("invalid_body", text, input=name, expected=field, got=other.name)
    values = getattr(tensor.contents, field)
    if len(values) != prod(shape):
        text = f"input {name!r} declares the shape {_shown(shape)}, but its {field} hold {len(values)} values"
        raise Invalid("wrong_shape", text, input=name, expected=_shown(shape), got=len(values))
    array = np.empty(len(values), held.numpy)
    array[:] = values if held is Datatype.BYTES else np.fromiter(values, held.numpy, len(values))
    try:
        return cast(array.reshape(shape), datatype, name)
    except (ValueError, OverflowError) as error:
        raise _impossible(name, shape) from error


def _datatype(tensor: ModelInferRequest.InferInputTensor) -> Datatype:
    datatype = _DATATYPES.get(tensor.datatype)
    if datatype is None:
        name, got = tensor.name[:80], tensor.datatype[:40]
        text = f"input {name!r} names the datatype {got!r}: use one of {', '.join(_DATATYPES)}"
        raise Invalid("unknown_datatype", text, input=name, expected=list(_DATATYPES), got=got)
    return datatype


def _shape(tensor: ModelInferRequest.InferInputTensor) -> list[int]:
    shape = list(tensor.shape)
    check_shape(shape, tensor.name)
    return shape


def check_shape(shape: Sequence[int], name: str) -> None:
    """Refuse sizes that are negative, or too many. Raises Invalid ``wrong_shape``."""
    if len(shape) > _MOST_AXES or min(shape, default=0) < 0:
        text = f"input {name[:80]!r} declares the shape {_shown(shape)}: send at most {_MOST_AXES} sizes, none of them negative"
        raise Invalid("wrong_shape", text, input=name[:80], got=_shown(shape))


def _shown(shape: Sequence[int]) -> str:
    return show_shape(shape[:16])[:200]


def _impossible(name: str, shape: Sequence[int]) -> Invalid:
    """The refusal of no values in axes too long for any array: [0, 2**62]."""
    text = f"input {name!r} declares the shape {_shown(shape)}, which no array can have"
    return Invalid("wrong_shape", text, input=name, got=_shown(shape))


def _refuse_shared_memory(parameters: Mapping[str, Any], where: str) -> None:
    if _SHARED_MEMORY in parameters:
        text = f"{where} is in shared memory, which this server does not read or write: send the data itself"
        raise Invalid("unknown_parameter", text, parameter=_SHARED_MEMORY)


_RAW_OUTPUT = bytes([ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | 2])
_RAW_INPUT = bytes([ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | 2])


def raw_prefix(size: int) -> bytes:
    """What stands before ``size`` bytes of a request's raw contents."""
    return _RAW_INPUT + _varint(size)


@lru_cache(maxsize=1024)
def _describe(name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...], size: int) -> bytes:
    """The part of an answer that says what one output is, up to its ``size`` raw bytes."""
    output = ModelInferResponse.InferOutputTensor(name=name, datatype=str(Datatype.of(dtype)), shape=shape)
    return ModelInferResponse(outputs=[output]).SerializeToString() + _RAW_OUTPUT + _varint(size)


def _varint(number: int) -> bytes:
    """A number as the wire format has it."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
