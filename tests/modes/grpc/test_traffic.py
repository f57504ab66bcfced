"""Versions that share the callers of a model, over both services of gRPC."""

from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from foretell.modes.grpc.stubs import inference_pb2 as messages
from foretell.modes.grpc.stubs import tensorflow_serving_pb2 as tfs
from foretell.modes.grpc.tensorproto import write_tensor
from tests.modes.grpc.asking import INFER, PREDICT, Channel, ask, infer_message
from tests.modes.http.test_traffic import SPLIT, write_model
from tests.serving import serving

X = np.array([[1, 2]], np.float32)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Channel]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "split", SPLIT)
    logs = tmp_path_factory.mktemp("log")
    with serving(logs, "--grpc-port", "0", models={}, paths=[folder]) as served, grpc.insecure_channel(served.grpc) as channel:
        yield channel


def infer(channel: Channel, *metadata: tuple[str, str], version: str = "") -> str:
    """The version that answers."""
    body = infer_message("split", X, model_version=version).SerializeToString()
    answer = ask(channel, INFER, body, metadata=metadata)
    assert isinstance(answer, bytes), answer
    told: str = messages.ModelInferResponse.FromString(answer).model_version
    return told


def predict(channel: Channel, *metadata: tuple[str, str]) -> str:
    body = tfs.PredictRequest(model_spec={"name": "split"}, inputs={"x": write_tensor(X)}).SerializeToString()
    answer = ask(channel, PREDICT, body, metadata=metadata)
    assert isinstance(answer, bytes), answer
    return str(tfs.PredictResponse.FromString(answer).model_spec.version.value)


@pytest.mark.parametrize("call", [infer, predict])
def test_calls_without_a_version_are_split_by_weight(call: object, shared: Channel) -> None:
    counts = Counter(call(shared) for _ in range(200))  # type: ignore[operator]
    assert set(counts) == {"1", "2"}
    assert 20 < counts["2"] < 80


def test_a_key_leads_to_one_version_by_both_services(shared: Channel) -> None:
    for user in "abcdef":
        key = ("x-user-id", user)
        assert len({infer(shared, key), infer(shared, key), predict(shared, key)}) == 1


def test_a_version_that_is_named_answers(shared: Channel) -> None:
    assert [infer(shared, version=version) for version in "123"] == ["1", "2", "3"]
