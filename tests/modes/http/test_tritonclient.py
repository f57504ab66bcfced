"""Triton's own HTTP client, unchanged, against a real server: sync and asyncio, JSON and binary."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from foretell.tensors import Array
from tests.serving import Served, serving

triton: Any = pytest.importorskip("tritonclient.http")
triton_aio: Any = pytest.importorskip("tritonclient.http.aio")

KEY = "of the operator"
ADMIN = {"authorization": f"Bearer {KEY}"}
MODELS = {
    "add": """
@foretell.model(inputs={"a": "FP32[2]", "b": "FP32[2]"}, outputs={"sum": "FP32[2]", "difference": "FP32[2]"})
def model(arrays):
    return {"sum": arrays["a"] + arrays["b"], "difference": arrays["a"] - arrays["b"]}
""",
    **{
        f"echo_{datatype.lower()}": f"""
@foretell.model(inputs={{"x": "{datatype}[?]"}}, outputs={{"y": "{datatype}[?]"}})
def model(arrays):
    return {{"y": arrays["x"]}}
"""
        for datatype in ("BOOL", "INT64", "UINT8", "FP16", "BF16", "FP32", "FP64", "BYTES")
    },
}
ARRAYS: dict[str, Array] = {
    "BOOL": np.array([[True, False]]),
    "INT64": np.array([[-(2**63), 2**63 - 1]]),
    "UINT8": np.arange(256, dtype=np.uint8)[np.newaxis],
    "FP16": np.array([[1.5, -65504.0]], np.float16),
    "FP32": np.array([[0.1, 3.4e38]], np.float32),
    "FP64": np.array([[0.1, 1e308]]),
    "BYTES": np.array([[b"\x00\xff", "é".encode(), b""]], dtype=object),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("triton")
    flags = ("--http-compress-above-bytes", "100")
    with serving(folder, *flags, models=MODELS, environ={"FORETELL_ADMIN_KEY": KEY}) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as connected:
        yield connected


def tensor(name: str, array: Array, datatype: str, *, binary: bool = True) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def both() -> list[Any]:
    a, b = np.array([[1, 2]], np.float32), np.array([[10, 20]], np.float32)
    return [tensor("a", a, "FP32"), tensor("b", b, "FP32", binary=False)]


@pytest.mark.parametrize("answer_binary", [True, False])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", ARRAYS)
def test_every_datatype_comes_back(client: Any, datatype: str, binary: bool, answer_binary: bool) -> None:
    array = ARRAYS[datatype]
    if datatype == "FP16" and not (binary and answer_binary):
        pytest.skip("the client itself has no FP16 in JSON")
    if datatype == "BYTES" and not (binary and answer_binary):
        array = np.array([[b"plain", "é".encode()]], dtype=object)
    outputs = [triton.InferRequestedOutput("y", binary_data=answer_binary)]
    result = client.infer(f"echo_{datatype.lower()}", [tensor("x", array, datatype, binary=binary)], outputs=outputs)
    back = result.as_numpy("y")
    assert back.shape == array.shape
    if datatype == "BYTES" and not answer_binary:
        back = np.array([[text.encode() for text in back[0]]], dtype=object)
    assert back.tolist() == array.tolist()


def test_bfloat16_comes_back(client: Any) -> None:
    array = np.array([[1.5, -3e38]], ml_dtypes.bfloat16)
    result = client.infer("echo_bf16", [tensor("x", array, "BF16")])
    assert np.array_equal(result.as_numpy("y").astype(np.float32), array.astype(np.float32))


def test_several_inputs_and_only_the_outputs_that_are_wanted(client: Any) -> None:
    result = client.infer("add", both(), request_id="7", outputs=[triton.InferRequestedOutput("difference")])
    assert result.as_numpy("difference").tolist() == [[-9.0, -18.0]]
    assert result.as_numpy("sum") is None
    assert result.get_response()["id"] == "7"


def test_a_classification(client: Any) -> None:
    result = client.infer("add", both(), outputs=[triton.InferRequestedOutput("sum", class_count=2)])
    assert result.as_numpy("sum").tolist() == [[b"22.0:1", b"11.0:0"]]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_both_bodies_may_be_compressed(client: Any, coding: str) -> None:
    array = np.zeros((1, 5000), np.float64)
    options = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
    result = client.infer("echo_fp64", [tensor("x", array, "FP64")], **options)
    assert np.array_equal(result.as_numpy("y"), array)


def test_parameters_are_taken(client: Any) -> None:
    options = {"sequence_id": 9, "sequence_start": True, "priority": 1, "timeout": 10**7, "parameters": {"own": 1}}
    assert client.infer("add", both(), **options).as_numpy("sum") is not None


def test_health_metadata_and_configuration(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("add")
    assert not client.is_model_ready("z")
    assert {"binary_tensor_data", "statistics"} <= set(client.get_server_metadata()["extensions"])
    metadata = client.get_model_metadata("add", "1")
    assert metadata["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1, 2]}
    assert client.get_model_config("add")["max_batch_size"] == 64


def test_statistics_count(client: Any) -> None:
    before = client.get_inference_statistics("add")["model_stats"][0]
    client.infer("add", both())
    (after,) = client.get_inference_statistics("add", "1")["model_stats"]
    assert after["inference_count"] == before["inference_count"] + 1
    assert set(after["inference_stats"]["success"]) == {"count", "ns"}
    assert {entry["name"] for entry in client.get_inference_statistics()["model_stats"]} == set(MODELS)


def test_an_error_is_told_as_one(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException, match="there is no model 'z'") as caught:
        client.infer("z", both())
    assert caught.value.status() == "404"


def test_a_model_is_unloaded_and_loaded_again(client: Any) -> None:
    def state() -> str:
        index = client.get_model_repository_index()
        return str(next(entry["state"] for entry in index if entry["name"] == "echo_bool"))

    assert state() == "READY"
    client.unload_model("echo_bool", headers=ADMIN)
    assert state() == "UNAVAILABLE"
    assert not client.is_model_ready("echo_bool")
    client.load_model("echo_bool", headers=ADMIN)
    assert state() == "READY"


def test_loading_needs_the_key(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException, match="admin key") as caught:
        client.unload_model("echo_bool")
    assert caught.value.status() == "401"


@pytest.mark.parametrize("binary", [True, False])
def test_the_asyncio_client(served: Served, binary: bool) -> None:
    async def run() -> list[Any]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{served.port}") as connected:
            assert await connected.is_server_ready()
            assert (await connected.get_model_metadata("add"))["name"] == "add"
            assert len(await connected.get_model_repository_index()) == len(MODELS)
            a, b = np.array([[1, 2]], np.float32), np.array([[10, 20]], np.float32)
            inputs = [tensor("a", a, "FP32", binary=binary), tensor("b", b, "FP32", binary=binary)]
            outputs = [triton.InferRequestedOutput("sum", binary_data=binary)]
            results = await asyncio.gather(*(connected.infer("add", inputs, outputs=outputs) for _ in range(8)))
            return [result.as_numpy("sum").tolist() for result in results]

    assert asyncio.run(run()) == [[[11.0, 22.0]]] * 8
