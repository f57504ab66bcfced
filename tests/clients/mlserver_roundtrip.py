"""MLServer's types and codecs against a server: ``... rest http://HOST:PORT`` or ``... grpc HOST:PORT``.

Runs where mlserver is installed and foretell is not. The models are those of tests/clients/test_clients.py.
"""

import sys
import urllib.request
from typing import Any

import grpc
import numpy as np
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.grpc.converters import ModelInferRequestConverter, ModelInferResponseConverter
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.types import InferenceRequest, InferenceResponse, MetadataModelResponse, MetadataServerResponse

ROWS = np.array([[1.5, -2.0], [0.25, 4.0]], np.float32)
TEXTS = ["a", "déjà vu", ""]


def fetch(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        told: bytes = answer.read()
        return told


def rest(url: str) -> None:
    MetadataServerResponse.model_validate_json(fetch(f"{url}/v2"))
    metadata = MetadataModelResponse.model_validate_json(fetch(f"{url}/v2/models/double"))
    assert [tensor.name for tensor in metadata.inputs] == ["x"]

    def ask(model: str, tensor: Any) -> InferenceResponse:
        body = InferenceRequest(id="q-1", inputs=[tensor]).model_dump_json(exclude_none=True).encode()
        answer = InferenceResponse.model_validate_json(fetch(f"{url}/v2/models/{model}/infer", body))
        assert (answer.id, answer.model_name) == ("q-1", model)
        return answer

    answer = ask("double", NumpyCodec.encode_input("x", ROWS))
    np.testing.assert_array_equal(NumpyCodec.decode_output(answer.outputs[0]), ROWS * 2 + 1)
    print("mlserver REST, NumpyCodec")
    answer = ask("words", StringCodec.encode_input("text", TEXTS))
    assert StringCodec.decode_output(answer.outputs[0]) == TEXTS
    print("mlserver REST, StringCodec")
    raw = [bytes(range(256)), b""]
    answer = ask("words", Base64Codec.encode_input("text", raw))
    assert Base64Codec.decode_output(answer.outputs[0]) == raw
    print("mlserver REST, Base64Codec")


def over_grpc(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        request = InferenceRequest(id="q-1", inputs=[NumpyCodec.encode_input("x", ROWS)])
        for raw in (False, True):
            sent = ModelInferRequestConverter.from_types(request, model_name="double", use_raw=raw)
            answer = ModelInferResponseConverter.to_types(stub.ModelInfer(sent, timeout=10))
            np.testing.assert_array_equal(NumpyCodec.decode_output(answer.outputs[0]), ROWS * 2 + 1)
            print("mlserver gRPC", "raw" if raw else "typed contents")


if __name__ == "__main__":
    {"rest": rest, "grpc": over_grpc}[sys.argv[1]](sys.argv[2])
