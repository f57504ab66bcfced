"""What is sent: rows, made up from the model's metadata or given (see ``rows.py``), as requests of each protocol."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import orjson

from foretell.bench.http1 import HttpLink, write_request
from foretell.bench.http2 import GrpcLink, write_headers, write_message
from foretell.bench.network import Address, Sockets
from foretell.client.codec import encode_binary, encode_json
from foretell.tensors import Array, Arrays, Datatype

SEED = 0
BODIES = 16
FREE_AXIS = 16  # the length of an axis of any length that is not the axis of rows
WORDS = (b"apple", b"river", b"seven", b"north", b"glass", b"music", b"paper", b"winter")
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_NUMPY = {str(datatype): datatype.numpy for datatype in Datatype}


@dataclass(frozen=True)
class Model:
    """A model as the server describes it."""

    name: str
    inputs: Sequence[Mapping[str, Any]]


def make_rows(model: Model, rows: int, count: int = BODIES) -> list[Arrays]:
    """``count`` different requests of random values, the same in every run. Numbers lie in 0 to 1, whole ones in 0 to 9."""
    rng = np.random.default_rng(SEED)
    return [{each["name"]: _random(each, rows, rng) for each in model.inputs} for _ in range(count)]


def _random(described: Mapping[str, Any], rows: int, rng: np.random.Generator) -> Array:
    sizes = [int(size) for size in described["shape"]]
    shape = [rows if axis == 0 and size < 0 else FREE_AXIS if size < 0 else size for axis, size in enumerate(sizes)]
    dtype = _NUMPY[described["datatype"]]
    if dtype.kind == "O":
        words = rng.choice(len(WORDS), (*shape, 4))
        texts = [b" ".join(WORDS[word] for word in line) for line in words.reshape(-1, 4)]
        return np.array(texts, dtype=object).reshape(shape)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        return rng.integers(0, 10, shape).astype(dtype)
    return rng.random(shape).astype(dtype)


def network(address: Address, protocol: str, model: Model, inputs: Sequence[Arrays]) -> Callable[[], Sockets]:
    """What opens fresh connections that send these inputs round and round."""
    room = bytearray(2**18)
    if protocol == "grpc":
        messages = [write_message(write_grpc(model, arrays)) for arrays in inputs]
        return lambda: Sockets(address, partial(GrpcLink, write_headers(str(address), GRPC_METHOD), messages, room))
    requests = [write_request(str(address), *write_infer(protocol, model, arrays)) for arrays in inputs]
    return lambda: Sockets(address, partial(HttpLink, requests, room))


def write_infer(protocol: str, model: Model, arrays: Arrays) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of an infer request over HTTP, with "json" or "binary" tensors."""
    write = write_binary if protocol == "binary" else write_json
    return (f"/v2/models/{model.name}/infer", *write(arrays))


def write_json(arrays: Arrays) -> tuple[bytes, dict[str, str]]:
    """An infer request in JSON."""
    tensors = [{**_described(name, array), **encode_json(name, array)} for name, array in arrays.items()]
    return orjson.dumps({"inputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY), {"Content-Type": "application/json"}


def write_binary(arrays: Arrays) -> tuple[bytes, dict[str, str]]:
    """An infer request with binary tensors, which asks for binary ones."""
    tensors, elements = [], []
    for name, array in arrays.items():
        elements.append(bytes(encode_binary(name, array)))
        tensors.append({**_described(name, array), "parameters": {"binary_data_size": len(elements[-1])}})
    head = orjson.dumps({"parameters": {"binary_data_output": True}, "inputs": tensors})
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + b"".join(elements), headers


def write_grpc(model: Model, arrays: Arrays) -> bytes:
    """A ModelInferRequest with raw contents."""
    from foretell.modes.grpc.stubs.inference_pb2 import ModelInferRequest

    tensors = [ModelInferRequest.InferInputTensor(**_described(name, array)) for name, array in arrays.items()]
    raw = [bytes(encode_binary(name, array)) for name, array in arrays.items()]
    return ModelInferRequest(model_name=model.name, inputs=tensors, raw_input_contents=raw).SerializeToString()


def _described(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": str(Datatype.of(array.dtype))}
