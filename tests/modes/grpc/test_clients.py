"""Triton's own client, unchanged: every call that it has a method for and that this server answers."""

import asyncio
from collections.abc import Iterator
from queue import Queue
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from foretell.tensors import Array
from tests.modes.grpc.models import KEY
from tests.serving import Served

ADMIN = {"authorization": f"Bearer {KEY}"}
ROWS: dict[str, Array] = {
    "BOOL": np.array([[True, False, True]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-32768, 32767]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[1.5, -0.0, np.inf]], np.float16),
    "BF16": np.array([[1.5, -2.0, 3.140625]], ml_dtypes.bfloat16),
    "FP32": np.array([[1.5, np.finfo(np.float32).tiny, -np.inf], [0, 1, 2]], np.float32),
    "FP64": np.array([[1.5, 5e-324]], np.float64),
    "BYTES": np.array([[b"", b"\x00\xff", "grüße".encode()]], dtype=object),
}


@pytest.fixture
def client(server: Served) -> Iterator[Any]:
    with triton.InferenceServerClient(server.grpc) as client:
        yield client


def tensor(name: str, array: Array, datatype: str | None = None, module: Any = triton) -> Any:
    given = module.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    return given


@pytest.mark.parametrize("datatype", ROWS)
def test_every_datatype_comes_back_as_it_went(client: Any, datatype: str) -> None:
    rows = ROWS[datatype]
    result = client.infer(f"echo{datatype}", [tensor("x", rows)])
    back = result.as_numpy("y")
    assert result.get_output("y").datatype == datatype
    assert back.dtype == rows.dtype
    np.testing.assert_array_equal(back, rows)


def test_the_asyncio_client_asks_many_at_once(server: Served) -> None:
    async def main() -> list[float]:
        async with triton_aio.InferenceServerClient(server.grpc) as client:
            asked = [client.infer("double", [tensor("x", np.array([[n, 0]], np.float32), module=triton_aio)]) for n in range(3)]
            return [float(answer.as_numpy("y")[0, 0]) for answer in await asyncio.gather(*asked)]

    assert asyncio.run(main()) == [1.0, 3.0, 5.0]


def test_several_inputs_requested_outputs_the_id_and_parameters(client: Any) -> None:
    inputs = [tensor("b", np.array([10, 20])), tensor("a", np.array([[1, 2], [3, 4]], np.float32))]
    result = client.infer(
        "pair",
        inputs,
        outputs=[triton.InferRequestedOutput("text"), triton.InferRequestedOutput("sum")],
        request_id="seven",
        priority=1,
        timeout=5_000_000,
        parameters={"mine": "yes", "flag": True, "share": 0.5},
    )
    message = result.get_response()
    assert (message.model_name, message.model_version, message.id) == ("pair", "1", "seven")
    assert [output.name for output in message.outputs] == ["text", "sum"]
    assert result.as_numpy("text").tolist() == [b"10", b"20"]
    assert result.as_numpy("sum").tolist() == [[11, 12], [23, 24]]


def test_an_output_comes_as_classes(client: Any) -> None:
    asked = [triton.InferRequestedOutput("y", class_count=1)]
    rows = np.array([[1, 5], [3, 2]], np.float32)
    back = client.infer("double", [tensor("x", rows)], outputs=asked).as_numpy("y")
    assert back.tolist() == [[b"11.0:1"], [b"7.0:0"]]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_messages_are_read(client: Any, algorithm: str) -> None:
    rows = np.zeros((1, 2000), np.float32)
    back = client.infer("echoFP32", [tensor("x", rows)], compression_algorithm=algorithm).as_numpy("y")
    assert back.shape == (1, 2000)


def test_large_tensors_come_whole(client: Any) -> None:
    rows = np.arange(200_000, dtype=np.float32).reshape(4, 50_000)
    np.testing.assert_array_equal(client.infer("echoFP32", [tensor("x", rows)]).as_numpy("y"), rows)


def test_server_and_models_say_that_they_are_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("double")
    assert client.is_model_ready("double", "1")


def test_metadata(client: Any) -> None:
    server = client.get_server_metadata(as_json=True)
    assert server["name"] == "foretell"
    assert "statistics" in server["extensions"]
    model = client.get_model_metadata("pair", as_json=True)
    assert (model["name"], model["versions"]) == ("pair", ["1"])
    assert model["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": ["-1", "2"]}
    assert [output["datatype"] for output in model["outputs"]] == ["FP32", "INT64", "BYTES"]


def test_configuration(client: Any) -> None:
    config = client.get_model_config("pair").config
    assert (config.name, config.backend, config.max_batch_size) == ("pair", "foretell", 64)
    assert [(given.name, given.data_type, list(given.dims)) for given in config.input] == [("a", 11, [2]), ("b", 9, [1])]
    assert config.version_policy.specific.versions == [1]


def test_statistics_count_what_was_asked(client: Any) -> None:
    before = client.get_inference_statistics("echoINT8").model_stats[0].inference_count
    client.infer("echoINT8", [tensor("x", np.array([[1], [2]], np.int8))])
    (after,) = client.get_inference_statistics("echoINT8", "1").model_stats
    assert after.inference_count == before + 2
    assert after.inference_stats.success.count >= 1
    assert after.inference_stats.compute_infer.ns > 0
    assert 2 in [batch.batch_size for batch in after.batch_stats]
    assert len(client.get_inference_statistics().model_stats) > 10


def test_the_index_unloading_and_loading(client: Any) -> None:
    def states() -> dict[str, str]:
        return {model.name: model.state for model in client.get_model_repository_index().models}

    assert states()["text"] == "READY"
    client.unload_model("text", headers=ADMIN)
    assert states()["text"] == "UNAVAILABLE"
    assert states()["double"] == "READY"
    assert not client.is_model_ready("text")
    assert not client.is_model_ready("never-heard-of")
    client.load_model("text", headers=ADMIN)
    assert client.is_model_ready("text")


def test_a_load_that_would_bring_its_own_files_is_refused(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="'config' is not taken"):
        client.load_model("text", headers=ADMIN, config="{}")
    with pytest.raises(InferenceServerException, match="'unload_dependents' is not taken"):
        client.unload_model("text", headers=ADMIN, unload_dependents=True)
    assert client.is_model_ready("text")


def test_only_who_holds_the_key_may_load_and_unload(client: Any) -> None:
    for headers in (None, {"authorization": "Bearer wrong"}):
        for call in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                call("double", headers=headers)
    assert client.is_model_ready("double")


def test_a_stream_answers_in_order_and_goes_on_after_a_refusal(client: Any) -> None:
    got: Queue[tuple[Any, Any]] = Queue()
    client.start_stream(lambda result, error: got.put((result, error)))
    for n in range(4):
        client.async_stream_infer("double", [tensor("x", np.array([[n, 0]], np.float32))], request_id=str(n))
    client.async_stream_infer("nothing", [tensor("x", np.array([[0, 0]], np.float32))])
    client.async_stream_infer(
        "double", [tensor("x", np.array([[9, 0]], np.float32))], request_id="9", enable_empty_final_response=True
    )
    answers = [got.get(timeout=5) for _ in range(6)]
    client.stop_stream()
    good = [result.get_response() for result, error in answers if error is None]
    assert [message.id for message in good] == ["0", "1", "2", "3", "9"]
    assert [float(result.as_numpy("y")[0, 0]) for result, error in answers if error is None] == [1, 3, 5, 7, 19]
    assert good[-1].parameters["triton_final_response"].bool_param
    assert "there is no model 'nothing'" in str(answers[4][1])


def test_a_stream_of_the_asyncio_client(server: Served) -> None:
    async def asked() -> Any:
        for n in range(3):
            rows = np.array([[n, 0]], np.float32)
            yield {"model_name": "double", "inputs": [tensor("x", rows, module=triton_aio)], "request_id": str(n)}

    async def main() -> list[str]:
        async with triton_aio.InferenceServerClient(server.grpc) as client:
            return [result.get_response().id async for result, error in client.stream_infer(asked()) if error is None]

    assert asyncio.run(main()) == ["0", "1", "2"]
