"""The kserve client against a server: ``... rest http://HOST:PORT`` or ``... grpc HOST:PORT``.

Runs where kserve is installed and foretell is not. The models are those of tests/serving.py.
"""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

ROWS = np.array([[1.5, -2.0], [0.25, 4.0]], np.float32)


def question(*, binary: bool = False) -> InferRequest:
    tensor = InferInput("x", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest("double", [tensor], request_id="q-1")


async def rest_v2(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "double")
    for binary in (False, True):
        answer = await client.infer(url, question(binary=binary), model_name="double")
        np.testing.assert_array_equal(answer.get_output_by_name("y").as_numpy(), ROWS * 2 + 1)
        assert answer.id == "q-1"
        print("kserve REST v2", "binary" if binary else "JSON")
    await client.close()


async def rest_v1(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
    answer = await client.infer(url, {"instances": [{"x": row} for row in ROWS.tolist()]}, model_name="double")
    assert [row["y"] for row in answer["predictions"]] == (ROWS * 2 + 1).tolist()
    await client.close()
    print("kserve REST v1")


async def grpc(address: str) -> None:
    client = InferenceGRPCClient(address, retries=0)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("double")
    for binary in (False, True):
        answer = await client.infer(question(binary=binary))
        np.testing.assert_array_equal(answer.get_output_by_name("y").as_numpy(), ROWS * 2 + 1)
        print("kserve gRPC", "raw" if binary else "typed contents")
    await client.close()


async def rest(url: str) -> None:
    await rest_v2(url)
    await rest_v1(url)


if __name__ == "__main__":
    asyncio.run({"rest": rest, "grpc": grpc}[sys.argv[1]](sys.argv[2]))
