"""TensorFlow Serving's prediction service: tensors of every type, signatures, and refusals."""

from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import Invalid
from foretell.modes.grpc.stubs import tensorflow_pb2 as tf
from foretell.modes.grpc.stubs import tensorflow_serving_pb2 as messages
from foretell.modes.grpc.tensorproto import TYPES, read_tensor, write_tensor
from foretell.tensors import Array, Datatype
from tests.modes.grpc.asking import PREDICT, Channel, ask, refused

METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
NUMBERS = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]
X = np.array([[1, 2], [3, 4]], np.float32)


def predict_message(model: str = "double", *, inputs: dict[str, Array] | None = None, **more: Any) -> bytes:
    tensors = {name: write_tensor(array) for name, array in (inputs or {"x": X}).items()}
    spec = {"name": model, **more.pop("spec", {})}
    return messages.PredictRequest(model_spec=spec, inputs=tensors, **more).SerializeToString()


def predict(channel: Channel, body: bytes) -> messages.PredictResponse:
    answer = ask(channel, PREDICT, body)
    assert isinstance(answer, bytes), answer
    return messages.PredictResponse.FromString(answer)


def assert_same(got: Array, want: Array) -> None:
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert got.tolist() == want.tolist() if got.dtype == object else got.tobytes() == want.tobytes()


def crossed(tensor: tf.TensorProto) -> Array:
    return read_tensor(tf.TensorProto.FromString(tensor.SerializeToString()), "x")


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16])
def test_all_patterns_of_a_half_go_there_and_back(datatype: Datatype) -> None:
    rows = np.arange(2**16, dtype=np.uint16).view(datatype.numpy).reshape(256, 256)
    assert_same(crossed(write_tensor(rows)), rows)


@given(st.sampled_from(NUMBERS), st.binary(min_size=8, max_size=64))
def test_any_bits_of_numbers_go_there_and_back_in_both_forms(datatype: Datatype, raw: bytes) -> None:
    size = datatype.numpy.itemsize
    flat = np.frombuffer(raw[: len(raw) // size * size], datatype.numpy)
    rows = (flat.view(np.uint8) > 127 if datatype is Datatype.BOOL else flat).reshape(1, -1)
    if not (datatype in (Datatype.FP32, Datatype.FP64) and np.isnan(rows).any()):  # Python's own floats make NaN quiet
        assert_same(crossed(write_tensor(rows)), rows)
    shape = {"dim": [{"size": size} for size in rows.shape]}
    assert_same(crossed(tf.TensorProto(dtype=TYPES[datatype], tensor_shape=shape, tensor_content=rows.tobytes())), rows)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8))
def test_any_bytes_go_there_and_back(elements: list[bytes]) -> None:
    rows = np.empty(len(elements), dtype=object)
    rows[:] = elements
    assert_same(crossed(write_tensor(rows)), rows)


def test_predict_answers_in_the_fields_where_clients_look(channel: Channel) -> None:
    answer = predict(channel, predict_message())
    assert list(answer.outputs["y"].float_val) == [3, 5, 7, 9]
    assert [dim.size for dim in answer.outputs["y"].tensor_shape.dim] == [2, 2]
    assert list(answer.outputs["sum"].float_val) == [3, 7]
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("double", 1)
    assert answer.model_spec.signature_name == "serving_default"


@pytest.mark.parametrize("datatype", [*NUMBERS, Datatype.BYTES])
def test_every_datatype_comes_back_as_it_went(channel: Channel, datatype: Datatype) -> None:
    rows = np.array([[b"\x00\xff", b""]], dtype=object) if datatype is Datatype.BYTES else np.ones((1, 3), datatype.numpy)
    answer = predict(channel, predict_message(f"echo{datatype}", inputs={"x": rows}))
    assert_same(read_tensor(answer.outputs["y"], "y"), rows)


def test_large_tensors_come_whole(channel: Channel) -> None:
    rows = np.arange(200_000, dtype=np.float32).reshape(4, -1)
    answer = predict(channel, predict_message("echoFP32", inputs={"x": rows}))
    assert_same(read_tensor(answer.outputs["y"], "y"), rows)


def test_several_inputs_versions_and_an_output_filter(channel: Channel) -> None:
    inputs: dict[str, Array] = {"b": np.array([10, 20]), "a": X}
    spec = {"version": {"value": 1}, "signature_name": "serving_default"}
    answer = predict(channel, predict_message("pair", inputs=inputs, spec=spec, output_filter=["text"]))
    assert list(answer.outputs) == ["text"]
    assert list(answer.outputs["text"].string_val) == [b"10", b"20"]


def test_metadata_tells_the_signature(channel: Channel) -> None:
    request = messages.GetModelMetadataRequest(model_spec={"name": "pair"}, metadata_field=["signature_def"])
    answer = ask(channel, METADATA, request.SerializeToString())
    assert isinstance(answer, bytes), answer
    told = messages.GetModelMetadataResponse.FromString(answer)
    signatures = messages.SignatureDefMap()
    assert told.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in signature.inputs["a"].tensor_shape.dim] == [-1, 2]
    assert {name: info.dtype for name, info in signature.outputs.items()} == {
        "sum": tf.DT_FLOAT,
        "b": tf.DT_INT64,
        "text": tf.DT_STRING,
    }


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"\xff", grpc.StatusCode.INVALID_ARGUMENT, "invalid_body"),
        (predict_message("z"), grpc.StatusCode.NOT_FOUND, "unknown_model"),
        (predict_message(spec={"version": {"value": 7}}), grpc.StatusCode.NOT_FOUND, "unknown_version"),
        (predict_message(spec={"version": {"value": -7}}), grpc.StatusCode.NOT_FOUND, "unknown_version"),
        (predict_message(spec={"version_label": "best"}), grpc.StatusCode.NOT_FOUND, "unknown_label"),
        (predict_message(spec={"signature_name": "z"}), grpc.StatusCode.INVALID_ARGUMENT, "unknown_parameter"),
        (predict_message(inputs={"z": X}), grpc.StatusCode.INVALID_ARGUMENT, "unknown_input"),
        (predict_message(inputs={"x": X.astype(object)}), grpc.StatusCode.INVALID_ARGUMENT, "wrong_dtype"),
        (predict_message(inputs={"x": X[:, :1]}), grpc.StatusCode.INVALID_ARGUMENT, "wrong_shape"),
        (predict_message(output_filter=["z"]), grpc.StatusCode.INVALID_ARGUMENT, "unknown_output"),
        (predict_message(inputs={"x": X * 0 - 666}), grpc.StatusCode.INTERNAL, "model_failed"),
    ],
)
def test_each_refusal_has_its_status(channel: Channel, body: bytes, status: grpc.StatusCode, code: str) -> None:
    answer = refused(channel, PREDICT, body)
    assert (answer.status, answer.code) == (status, code)


def test_a_deadline_ends_the_work(channel: Channel) -> None:
    body = predict_message("slow", inputs={"seconds": np.array([0.5], np.float32)})
    assert refused(channel, PREDICT, body, timeout_s=0.05).status is grpc.StatusCode.DEADLINE_EXCEEDED


def test_other_metadata_is_refused(channel: Channel) -> None:
    request = messages.GetModelMetadataRequest(model_spec={"name": "pair"}, metadata_field=["z"])
    assert refused(channel, METADATA, request.SerializeToString()).code == "unknown_parameter"


def test_text_in_tensor_content_is_refused_as_having_no_values() -> None:
    tensor = tf.TensorProto(dtype=tf.DT_STRING, tensor_content=b"abc", tensor_shape={"dim": [{"size": 1}]})
    with pytest.raises(Invalid, match="string_val holds 0 values"):
        read_tensor(tensor, "x")
