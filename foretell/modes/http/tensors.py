"""The tensor door: infer requests of the Open Inference Protocol v2, in JSON or with binary tensors.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import Any, TypeVar

import msgspec
import numpy as np
import orjson

from foretell.elements import element_buffer, read_elements
from foretell.engine.classify import check_classes, classify
from foretell.engine.engine import Engine
from foretell.engine.parameters import read_flag, read_parameters
from foretell.engine.part import Part
from foretell.errors import Invalid
from foretell.modes.http.binary import Tensors, header_length
from foretell.modes.http.flat import FlatReader
from foretell.modes.http.framed import FramedRequest
from foretell.modes.http.numbers import decode_data, encode_base64, encode_data, encode_rows, is_text
from foretell.modes.http.status import JSON_HEADERS, Answer, Headers
from foretell.request import Request
from foretell.tensors import Array, Arrays, Datatype, TensorSpec, show_shape

Body = TypeVar("Body", bound="InferBody")
Tensor = TypeVar("Tensor", bound="InferInput")
MOST_TOGETHER = 64 * 2**10  # bytes of the outputs of a call that become text in one go
BINARY_HEADERS: Headers = [(b"content-type", b"application/octet-stream")]


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


class BinaryInput(InferInput):
    """One tensor of a request with binary tensors: its data may follow the JSON."""

    data: msgspec.Raw = msgspec.Raw()


class BinaryBody(InferBody):
    """The JSON of a request with binary tensors."""

    inputs: list[BinaryInput]  # type: ignore[assignment]  # each is an InferInput


@dataclass(frozen=True, slots=True)
class Wanted:
    """How one output is to come: its ``classes`` largest values (None: all values), as ``binary`` or JSON."""

    name: str
    binary: bool
    classes: int | None = None


_BODY = msgspec.json.Decoder(InferBody)
_BINARY_BODY = msgspec.json.Decoder(BinaryBody)
_DATATYPES = {str(datatype): datatype for datatype in Datatype}


class TensorDoor:
    """Reads infer requests for one engine and writes its answers."""

    json_only = True

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        names = orjson.dumps({"model_name": engine.name, "model_version": engine.version})
        self._head = names[:-1]
        self._outputs = engine.pipeline.signature.outputs
        self._inputs = engine.pipeline.signature.inputs
        self._rows = engine.pipeline.signature.rows
        self._labels = engine.pipeline.labels
        self._flat = self._inputs[0].name if [spec.dtype for spec in self._inputs] == [Datatype.FP32] else ""
        self._reader = FlatReader(self._flat)
        self._gives_numbers = all(spec.dtype is not Datatype.BYTES for spec in self._outputs)
        self.reads_in_place = all(spec.dtype is not Datatype.BYTES for spec in self._inputs)  # binary tensors, without a loop
        self._input_names = [spec.name for spec in engine.pipeline.signature.inputs]
        self._output_names = [spec.name for spec in engine.pipeline.signature.outputs]

    def read(self, body: bytes, content_type: bytes, received: float, total_s: float) -> Request:
        """The request in a body of JSON. Raises Invalid."""
        flat = self._reader.read(body) if self._flat else None
        if flat is not None:
            return Request({self._flat: flat[0]}, received, received + total_s, flat[1], "http")
        parsed: InferBody = _decode_body(body)
        inputs: dict[str, Array] = {}
        for tensor in self._known(parsed.inputs):
            if tensor.name in inputs:
                raise _twice(tensor.name)
            inputs[tensor.name] = read_tensor(tensor)
        request = Request(inputs, received, received + total_s, parsed.id, "http")
        return self._pose(request, parsed, total_s) if parsed.parameters or parsed.outputs else request

    def read_binary(self, header: bytes, body: bytes | memoryview, received: float, total_s: float) -> Request:
        """The request in a body of which the header says how much is JSON; 0 is none: all is the only input."""
        length = header_length(header, len(body))
        raw = memoryview(body)
        if length == 0:
            request = Request(self._read_bare(raw), received, received + total_s, None, "http")
            return self._framed(request, tuple(Wanted(name, binary=True) for name in self._output_names))
        parsed = _decode_body(raw[:length], _BINARY_BODY)
        tensors = Tensors(raw[length:])
        inputs: dict[str, Array] = {}
        for tensor in self._known(parsed.inputs):
            if tensor.name in inputs:
                raise _twice(tensor.name)
            inputs[tensor.name] = _read_binary_tensor(tensor, tensors)
        tensors.finish()
        return self._pose(Request(inputs, received, received + total_s, parsed.id, "http"), parsed, total_s)

    def write(self, request: Request, outputs: Arrays) -> bytes:
        """The body of an answer."""
        if type(outputs) is Part:
            tensors = [write_part(name, outputs) for name in request.outputs or outputs]
        else:
            tensors = [write_tensor(name, outputs[name]) for name in request.outputs or outputs]
        named = b',"id":%b' % orjson.dumps(request.id) if request.id is not None else b""
        return b'%b%b,"outputs":[%b]}' % (self._head, named, tensors[0] if len(tensors) == 1 else b",".join(tensors))

    def _pose(self, request: Request, parsed: InferBody, total_s: float) -> Request:
        """The request with its parameters and its choice of outputs, and of how they come."""
        request.parameters = parsed.parameters
        request.deadline = min(request.deadline, request.received + read_parameters(parsed.parameters, total_s))
        request.outputs = self._asked(parsed.outputs)
        binary = bool(parsed.parameters.get("binary_data_output"))
        if not (binary or any(output.parameters for output in parsed.outputs)):
            return request
        wanted = {name: Wanted(name, binary) for name in request.outputs or self._output_names}
        for output in parsed.outputs:
            own = read_flag(output.parameters, "binary_data")
            classes = output.parameters.get("classification")
            spec = self._outputs[self._output_names.index(output.name)]
            wanted[output.name] = Wanted(
                output.name, binary if own is None else own, None if classes is None else check_classes(classes, spec)
            )
        return self._framed(request, tuple(wanted.values()))

    def _framed(self, request: Request, wanted: tuple[Wanted, ...]) -> Request:
        frame = partial(self.frame, request, wanted)
        return FramedRequest(
            request.inputs,
            request.received,
            request.deadline,
            request.id,
            "http",
            outputs=request.outputs,
            parameters=request.parameters,
            frame=frame,
            copies_only=self._gives_numbers and all(output.binary and output.classes is None for output in wanted),
        )

    def frame(self, request: Request, wanted: tuple[Wanted, ...], outputs: Arrays) -> Answer:
        """The answer of a request that said how each output is to come."""
        tensors, parts = [], []
        for output in wanted:
            array = outputs[output.name]
            if output.classes is not None:
                array = classify(array, output.classes, self._labels.get(output.name, ()), rows=self._rows)
            if output.binary:
                parts.append(element_buffer(array))
                tensors.append(_binary_head(output.name, array, len(parts[-1])))
            else:
                tensors.append(write_tensor(output.name, array))
        named = b',"id":%b' % orjson.dumps(request.id) if request.id is not None else b""
        text = b'%b%b,"outputs":[%b]}' % (self._head, named, b",".join(tensors))
        if not parts:
            return Answer(200, JSON_HEADERS, text)
        headers = [*BINARY_HEADERS, (b"inference-header-content-length", b"%d" % len(text))]
        return Answer(200, headers, b"".join([text, *parts]))

    def _read_bare(self, raw: memoryview) -> dict[str, Array]:
        """A body without JSON as the only input: one row, or as many as a row of known size allows."""
        if len(self._inputs) != 1:
            names = ", ".join(self._input_names)
            text = f"a body without JSON is for a model with one input: this one takes {names}"
            raise Invalid("invalid_body", text, expected=self._input_names)
        (spec,) = self._inputs
        shape = _shape_of_bare(spec, len(raw), rows=self._rows)
        if spec.dtype is Datatype.BYTES:  # the body is the one element, as it is
            one = np.empty(1, dtype=np.object_)
            one[0] = bytes(raw)
            return {spec.name: one.reshape(shape)}
        return {spec.name: read_elements(raw, spec.dtype, shape, spec.name)}

    def _known(self, tensors: list[Tensor]) -> list[Tensor]:
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
        raise _unknown_datatype(tensor)
    if tensor.parameters and "binary_data_size" in tensor.parameters:
        text = f"input {name!r} has binary data: say with Inference-Header-Content-Length where it begins, and send no 'data'"
        raise Invalid("invalid_body", text, input=name)
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
    return b'%b"shape":%b%b,"data":%b}' % (_tensor_head(name, array.dtype), _shape_text(array.shape), parameters, data)


def write_part(name: str, part: Part) -> bytes:
    """``write_tensor`` for one caller of a shared call: its numbers become text in one go for all of them."""
    whole = part.whole[name]
    if name not in part.kept:
        part.kept[name] = None if whole.nbytes > MOST_TOGETHER else encode_rows(whole), _tensor_head(name, whole.dtype)
    rows, head = part.kept[name]
    array = part[name]
    if rows is None:
        return write_tensor(name, array)
    start, count = part.start, len(array)
    text = rows[start] if count == 1 else b",".join(rows[start : start + count])
    return b'%b"shape":%b,"data":[%b]}' % (head, _shape_text(array.shape), text)


@lru_cache(maxsize=256)
def _shape_text(shape: tuple[int, ...]) -> bytes:
    return orjson.dumps(shape)


@lru_cache(maxsize=1024)
def _tensor_head(name: str, dtype: np.dtype[np.generic]) -> bytes:
    return orjson.dumps({"name": name, "datatype": str(Datatype.of(dtype))})[:-1] + b","


def _binary_head(name: str, array: Array, size: int) -> bytes:
    return b'%b"shape":%b,"parameters":{"binary_data_size":%d}}' % (
        _tensor_head(name, array.dtype),
        _shape_text(array.shape),
        size,
    )


def _read_binary_tensor(tensor: BinaryInput, tensors: Tensors) -> Array:
    """One tensor of a request with binary tensors: the next of them, or JSON as ever."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if not memoryview(tensor.data):
            name = tensor.name[:80]
            text = f"input {name!r} has neither 'data' nor the parameter 'binary_data_size'"
            raise Invalid("invalid_body", text, input=name)
        return read_tensor(tensor)
    if memoryview(tensor.data):
        return read_tensor(tensor)  # which refuses what has both
    datatype = _DATATYPES.get(tensor.datatype)
    if datatype is None:
        raise _unknown_datatype(tensor)
    name = tensor.name[:80]
    _count(tensor.shape, name)
    try:
        return read_elements(tensors.take(size, name), datatype, tensor.shape, name)
    except (ValueError, OverflowError) as error:  # no elements in axes too long for any array: [0, 2**63]
        text = f"input {name!r} declares the shape {_shown(tensor.shape)}, which no array can have"
        raise Invalid("wrong_shape", text, input=name, got=_shown(tensor.shape)) from error


def _shape_of_bare(spec: TensorSpec, size: int, *, rows: bool) -> list[int]:
    """The shape that a body of ``size`` bytes has as this input; what it is not told fills the one axis that is open."""
    sizes: list[int | None] = list(spec.shape)
    if spec.dtype is Datatype.BYTES:
        return [each or 1 for each in ([1] if rows else []) + sizes]
    if rows:
        sizes = [1 if None in sizes else None, *sizes]
    if sizes.count(None) > 1:
        text = f"input {spec.name!r} has several axes of any length ({spec}): send its shape in JSON"
        raise Invalid("wrong_shape", text, input=spec.name)
    known = prod([each for each in sizes if each is not None]) * spec.dtype.numpy.itemsize
    return [(size // known if known else 0) if each is None else each for each in sizes]


def _twice(name: str) -> Invalid:
    return Invalid("duplicate_input", f"input {name[:80]!r} is there twice", input=name[:80])


def _unknown_datatype(tensor: InferInput) -> Invalid:
    name, got = tensor.name[:80], tensor.datatype[:40]
    text = f"input {name!r} names the datatype {got!r}: use one of {', '.join(_DATATYPES)}"
    return Invalid("unknown_datatype", text, input=name, expected=list(_DATATYPES), got=got)


def _decode_body(body: bytes | memoryview, decoder: "msgspec.json.Decoder[Body]" = _BODY) -> Body:  # type: ignore[assignment]
    """The JSON of a request. Raises Invalid."""
    try:
        return decoder.decode(body)
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
