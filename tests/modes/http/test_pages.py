"""Everything that is not hot: health, metadata and metrics."""

from collections.abc import Iterator

import pytest

from foretell.errors import Setup
from foretell.pipeline import Pipeline
from foretell.tensors import Signature, TensorSpec
from foretell.testing import FakeBackend, InProcess


@pytest.fixture
def client() -> Iterator[InProcess]:
    with InProcess(Pipeline(FakeBackend())) as client:
        yield client


def test_health_is_three_answers(client: InProcess) -> None:
    for path, told in (
        ("health/live", {"live": True}),
        ("health/ready", {"ready": True}),
        ("models/m/ready", {"name": "m", "ready": True}),
    ):
        answer = client.request("GET", f"/v2/{path}")
        assert (answer.status, answer.json()) == (200, told)


def test_ready_is_false_until_everything_is_loaded(client: InProcess) -> None:
    client.service.catalog.complete = False
    assert client.request("GET", "/v2/health/ready").status == 503
    assert client.request("GET", "/v2/health/live").status == 200
    assert client.request("GET", "/v2/models/m/ready").status == 200


def test_a_model_that_is_not_ready_is_503_and_says_when_to_try_again(client: InProcess) -> None:
    engine = next(iter(client.service.catalog))
    engine.ready = False
    assert client.request("GET", "/v2/models/m/ready").status == 503
    answer = client.request("GET", "/v2/models/m")
    engine.ready = True
    assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "not_ready", "1")


def test_metadata_has_the_form_of_the_protocol(client: InProcess) -> None:
    for path in ("/v2/models/m", "/v2/models/m/versions/1"):
        assert client.request("GET", path).json() == {
            "name": "m",
            "versions": ["1"],
            "platform": "foretell_pipeline",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        }
    assert set(client.request("GET", "/v2").json()) == {"name", "version", "extensions"}
    assert client.request("GET", "/v2/models").json() == [{"name": "m", "version": "1", "ready": True}]


@pytest.mark.parametrize(
    "path", ["/v2/models/..%2f..%2fetc", "/v2/models/" + "z" * 5000, "/docs/../pages.py", "/docs/%2e%2e", "/docs/page.html"]
)
def test_what_is_not_there_is_404_in_a_short_sentence(path: str, client: InProcess) -> None:
    answer = client.request("GET", path)
    assert answer.status == 404
    assert len(answer.body) < 300


def test_metrics_are_prometheus_text(client: InProcess) -> None:
    client.predict({"x": [1, 2]})
    answer = client.request("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b'foretell_requests_total{model="m",outcome="ok",version="1"} 1.0' in answer.body


def test_an_input_name_that_json_would_escape_is_refused_at_load() -> None:
    spec = TensorSpec.parse('a"b', "FP32[2]")
    backend = FakeBackend(lambda arrays: {"y": arrays['a"b']}, Signature((spec,), (TensorSpec.parse("y", "FP32[2]"),)))
    client = InProcess(Pipeline(backend))
    with pytest.raises(Setup, match="rename it"):
        client.__enter__()
    client._runner.close()
