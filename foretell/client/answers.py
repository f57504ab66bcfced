"""What an answer says, every value checked. A server may be wrong or lie: what it cannot mean is refused at one door."""

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import orjson

from foretell.client.wire import Answer
from foretell.elements import read_elements
from foretell.errors import Broken, Invalid
from foretell.tensors import Array, Datatype, cast

HEAD_LENGTH = "Inference-Header-Content-Length"
Json = Literal["an object", "a list"]
DEEPEST = 16  # nested JSON arrays: more axes than any model has
_JSON: dict[Json, type] = {"an object": dict, "a list": list}
_DATATYPES = {str(datatype): datatype for datatype in Datatype}
_OPENING = re.compile(rb"[\s\[]*")


class OutputHead(msgspec.Struct):
    """One tensor of an answer, as its JSON part tells it."""

    name: str
    datatype: str
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=DEEPEST)]
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = msgspec.Raw(b"")


class AnswerHead(msgspec.Struct):
    """The JSON part of an answer."""

    outputs: list[OutputHead]


_HEAD = msgspec.json.Decoder(AnswerHead)


@contextmanager
def reading(form: str) -> Iterator[None]:
    """The one door: whatever goes wrong inside is the answer's fault. Raises Broken ``foreign_answer``."""
    try:
        yield
    except (Invalid, ValueError, LookupError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise Broken("foreign_answer", f"the answer is not {form}: {str(error)[:300]}") from error


def read_json(body: bytearray, kind: Json) -> Any:
    """The JSON of a body. Raises Broken ``foreign_answer``."""
    with reading("JSON"):
        said = orjson.loads(body)
    if not isinstance(said, _JSON[kind]):
        raise Broken("foreign_answer", f"the answer should be {kind}, and is another kind of JSON: check the address")
    return said


def read_tensors(answer: Answer) -> dict[str, Array]:
    """The outputs of an answer to infer, in either form. Raises Broken ``foreign_answer``."""
    return read_answer(answer.body, head_bytes(answer.headers, len(answer.body)))


def head_bytes(headers: Mapping[str, str], size: int) -> int | None:
    """How many bytes of a body of ``size`` are JSON, if its headers tell. Raises Broken ``foreign_answer``."""
    value = headers.get(HEAD_LENGTH.lower())
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 19 and int(value) <= size):
        raise Broken("foreign_answer", f"the answer says that {value[:40]!r} of its {size} bytes are JSON")
    return int(value)


def read_answer(body: bytearray, head_bytes: int | None) -> dict[str, Array]:
    """The outputs of an answer, whose first ``head_bytes`` are JSON and the rest binary; None: all of it is JSON.

    Arrays of numbers lie in the body itself, which is theirs. Raises Broken ``foreign_answer``.
    """
    view = memoryview(body)
    at = len(body) if head_bytes is None else head_bytes
    outputs: dict[str, Array] = {}
    with reading("one of the Open Inference Protocol"):
        for tensor in _HEAD.decode(view[:at]).outputs:
            if tensor.name in outputs:
                raise ValueError(f"it has the output {tensor.name[:80]!r} twice")
            size = tensor.parameters.get("binary_data_size")
            datatype = _DATATYPES[tensor.datatype]
            if size is None:
                outputs[tensor.name] = _from_json(tensor, datatype)
                continue
            if type(size) is not int or not 0 <= size <= len(body) - at:
                raise ValueError(f"output {tensor.name[:80]!r} cannot have {str(size)[:40]} of the {len(body) - at} bytes left")
            outputs[tensor.name] = read_elements(view[at : at + size], datatype, tensor.shape, tensor.name)
            at += size
    if at != len(body):
        raise Broken("foreign_answer", f"the answer's tensors take {at} bytes, but it has {len(body)}")
    return outputs


def _from_json(tensor: OutputHead, datatype: Datatype) -> Array:
    """A JSON array, flat or nested, none of its values changed but by rounding."""
    values = _decoder(datatype, _depth(tensor.data)).decode(tensor.data)
    if datatype.is_float:
        wide = np.array(values, dtype=np.float64)
        return cast(wide, datatype, tensor.name, rounding=True).reshape(tensor.shape)
    if datatype is not Datatype.BYTES:
        return np.array(values, dtype=datatype.numpy).reshape(tensor.shape)
    read = _from_base64 if tensor.parameters.get("content_type") == "base64" else str.encode
    flat = np.array(values, dtype=np.object_).reshape(-1)
    return _objects([read(element) for element in flat]).reshape(tensor.shape)


def _element(datatype: Datatype) -> Any:
    if datatype is Datatype.BYTES:
        return str
    if datatype is Datatype.BOOL:
        return bool
    return float | Literal["NaN", "Infinity", "-Infinity"] if datatype.is_float else int


@lru_cache(maxsize=256)
def _decoder(datatype: Datatype, depth: int) -> msgspec.json.Decoder[Any]:
    kind: Any = _element(datatype)
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


def _depth(data: msgspec.Raw) -> int:
    """How many arrays the data opens with. Raises ValueError."""
    opening = _OPENING.match(data)
    depth = opening.group().count(b"[") if opening else 0
    if depth > DEEPEST:
        raise ValueError(f"its data is nested over {DEEPEST} arrays deep")
    return depth


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _objects(elements: list[bytes]) -> Array:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array
