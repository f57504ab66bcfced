"""TensorFlow Serving's messages against a server: ``... rest http://HOST:PORT`` or ``... grpc HOST:PORT``.

Runs where tensorflow-serving-api is installed and foretell is not. The models are those of tests/serving.py. What REST
answers is read by the protocol's own messages, which refuse a field that they do not know.
"""

import json
import sys
from typing import Any

import grpc
import numpy as np
import requests
import tensorflow as tf
from google.protobuf.json_format import ParseDict
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2, prediction_service_pb2_grpc

ROWS = np.array([[1.5, -2.0], [0.25, 4.0]], np.float32)
WANTED = (ROWS * 2 + 1).tolist()


def rest(url: str) -> None:
    model = f"{url}/v1/models/double"

    def ask(verb: str, body: dict[str, Any]) -> Any:
        answer = requests.post(f"{model}{verb}", data=json.dumps(body), timeout=10)
        answer.raise_for_status()
        return answer.json()

    rows = ask(":predict", {"signature_name": "serving_default", "instances": [{"x": row} for row in ROWS.tolist()]})
    assert [row["y"] for row in rows["predictions"]] == WANTED
    columns = ask("/versions/1:predict", {"inputs": {"x": ROWS.tolist()}})
    assert columns["outputs"]["y"] == WANTED
    bare = ask(":predict", {"instances": ROWS.tolist()})
    assert bare == rows
    print("tensorflow-serving REST predict, rows and columns")
    status = ParseDict(requests.get(model, timeout=10).json(), get_model_status_pb2.GetModelStatusResponse())
    assert [(each.version, each.state) for each in status.model_version_status] == [(1, 30)]
    metadata = requests.get(f"{model}/metadata", timeout=10).json()
    signatures = ParseDict(metadata["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap())
    check(signatures, metadata["model_spec"]["version"])
    print("tensorflow-serving REST status and metadata")


def check(signatures: Any, version: str) -> None:
    signature = signatures.signature_def["serving_default"]
    assert version == "1"
    assert signature.inputs["x"].dtype == tf.float32.as_datatype_enum
    assert [dim.size for dim in signature.inputs["x"].tensor_shape.dim] == [-1, 2]


def over_grpc(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "double"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(ROWS))
        answer = stub.Predict(request, timeout=10)
        assert tf.make_ndarray(answer.outputs["y"]).tolist() == WANTED
        print("tensorflow-serving gRPC Predict")
        asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        asked.model_spec.name = "double"
        told = stub.GetModelMetadata(asked, timeout=10)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert told.metadata["signature_def"].Unpack(signatures)
        check(signatures, str(told.model_spec.version.value))
        print("tensorflow-serving gRPC GetModelMetadata")


if __name__ == "__main__":
    {"rest": rest, "grpc": over_grpc}[sys.argv[1]](sys.argv[2])
