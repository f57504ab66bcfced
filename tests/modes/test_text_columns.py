"""Texts that come as [N, 1], as MLServer's clients send them: taken where a model takes [N], and nowhere else."""

from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from foretell.elements import read_elements
from foretell.errors import Invalid
from foretell.modes.grpc.stubs import inference_pb2 as messages
from foretell.modes.grpc.stubs import tensorflow_serving_pb2 as tfs
from foretell.modes.grpc.tensorproto import write_tensor
from foretell.tensors import Array, Datatype, Signature, TensorSpec
from tests.modes.grpc.asking import INFER, PREDICT, ask, infer_message
from tests.serving import MODELS, Served, infer, serving

COLUMN: Array = np.array([[b"a"], [b"bc"]], dtype=object)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("text"), "--grpc-port", "0", models={"text": MODELS["text"]}) as served:
        yield served


def test_over_rest(server: Served) -> None:
    answer = server.ask(infer("text", "text", ["a", "bc"], shape=[2, 1], datatype="BYTES")).json()
    assert (answer["outputs"][0]["shape"], answer["outputs"][0]["data"]) == ([2], ["a", "bc"])


def test_over_grpc(server: Served) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        answer = ask(channel, INFER, infer_message("text", COLUMN, "text").SerializeToString())
        assert isinstance(answer, bytes), answer
        told = messages.ModelInferResponse.FromString(answer)
        assert list(told.outputs[0].shape) == [2]
        assert read_elements(told.raw_output_contents[0], Datatype.BYTES, [2], "back").tolist() == [b"a", b"bc"]
        request = tfs.PredictRequest(model_spec={"name": "text"}, inputs={"text": write_tensor(COLUMN)})
        answer = ask(channel, PREDICT, request.SerializeToString())
        assert isinstance(answer, bytes), answer
        assert list(tfs.PredictResponse.FromString(answer).outputs["back"].string_val) == [b"a", b"bc"]


@pytest.mark.parametrize("spec", ["FP32", "BYTES[2]"])
def test_no_other_shape_is_bent(spec: str) -> None:
    wanted = TensorSpec.parse("x", spec)
    column: Array = COLUMN if wanted.dtype is Datatype.BYTES else np.ones((2, 1), np.float32)
    with pytest.raises(Invalid, match="shape"):
        Signature((wanted,), (wanted,)).conform({"x": column})


def test_more_than_one_text_a_row_is_refused() -> None:
    wanted = TensorSpec.parse("x", "BYTES")
    with pytest.raises(Invalid, match="shape"):
        Signature((wanted,), (wanted,)).conform({"x": COLUMN.reshape(1, 2)})
