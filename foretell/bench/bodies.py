"""What is sent: rows made from the model's metadata, or given in a file, as requests of each protocol."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from foretell.bench.http1 import HttpLink, write_request
from foretell.bench.http2 import GrpcLink, write_headers, write_message
from foretell.bench.network import Address, Sockets
from foretell.client.codec import encode_binary, encode_json
from foretell.errors import Setup
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


def read_rows(model: Model, path: Path, rows: int) -> list[Arrays]:
    """The rows of a file, ``rows`` of them to a request; what is left over is not sent. Raises Setup ``broken_file``.

    An .npy file holds the one input of the model; a .json file a list of rows, each an object with a value for each input.
    """
    try:
        arrays = _read(model, path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{path} does not hold rows for {model.name}: {type(error).__name__}: {error}"
        raise Setup("broken_file", text) from error
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1 or min(lengths) < rows:
        raise Setup("broken_file", f"{path} has {min(lengths, default=0)} rows, a request takes {rows}")
    whole = min(lengths) // rows
    return [{name: array[at * rows : (at + 1) * rows] for name, array in arrays.items()} for at in range(whole)]


def _read(model: Model, path: Path) -> dict[str, Array]:
    if path.suffix == ".npy":
        only = model.inputs[0]
        if len(model.inputs) > 1:
            raise ValueError(f"an .npy file holds one input, the model takes {len(model.inputs)}: write them as .json")
        return {only["name"]: np.load(path, allow_pickle=False).astype(_NUMPY[only["datatype"]], copy=False)}
    found = orjson.loads(path.read_bytes())
    table = found if isinstance(found, list) else [found]
    return {each["name"]: _column(each, [row[each["name"]] for row in table]) for each in model.inputs}


def _column(described: Mapping[str, Any], values: list[Any]) -> Array:
    dtype = _NUMPY[described["datatype"]]
    return np.array([value.encode() for value in values], dtype=object) if dtype.kind == "O" else np.array(values, dtype=dtype)


def network(address: Address, protocol: str, model: Model, inputs: Sequence[Arrays]) -> Callable[[], Sockets]:
    """What opens fresh connections that send these inputs round and round."""
    room = bytearray(2**18)
    if protocol == "grpc":
        messages = [write_message(write_grpc(model, arrays)) for arrays in inputs]
        return lambda: Sockets(address, partial(GrpcLink, write_headers(str(address), GRPC_METHOD), messages, room))
    write = write_binary if protocol == "binary" else write_json
    path = f"/v2/models/{model.name}/infer"
    requests = []
    for arrays in inputs:
        body, headers = write(arrays)
        requests.append(write_request(str(address), path, body, headers))
    return lambda: Sockets(address, partial(HttpLink, requests, room))


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
