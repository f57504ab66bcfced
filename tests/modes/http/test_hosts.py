"""What TorchServe's, SageMaker's and Vertex's callers send."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from foretell.assemble import Service
from foretell.engine.engine import Engine
from foretell.errors import Setup
from foretell.modes.http.hosts import HostRoutes
from foretell.pipeline import Pipeline
from foretell.settings import Settings
from foretell.testing import FakeBackend, InProcess, Response

JSON = {"content-type": "application/json"}
ROW = b'{"x":[1,2]}'
AIP = {"AIP_HEALTH_ROUTE": "/v1/endpoints/7:health", "AIP_PREDICT_ROUTE": "/v1/endpoints/7:predict"}


@dataclass
class OnHost(InProcess):
    """The application with models of these names, where a platform has set these variables."""

    names: tuple[str, ...] = ("m",)
    environ: Mapping[str, str] = field(default_factory=dict)

    async def _start(self) -> None:
        self.service = Service(self.settings, self.environ)
        for name in self.names:
            engine = Engine(name, "1", Pipeline(FakeBackend()), Settings().engine)
            await engine.start()
            self.service.catalog.add(engine)
        self.service.catalog.complete = True


def on_host(*names: str, **environ: str) -> OnHost:
    return OnHost(Pipeline(FakeBackend()), names=names, environ=environ)


@pytest.mark.parametrize("path", ["/predictions/m", "/predictions/m/1", "/invocations"])
def test_torchserve_and_sagemaker_ask_the_row_door(path: str) -> None:
    with on_host("m") as client:
        answer = client.request("POST", path, ROW, JSON)
        assert answer.body == client.request("POST", "/predict/m", ROW, JSON).body
    assert answer.json()["predictions"] == [{"y": [3.0, 5.0]}]


@pytest.mark.parametrize("path", ["/predictions/m", "/predictions/m/1"])
def test_torchserve_may_be_put_what_it_may_be_posted(path: str) -> None:
    with on_host("m") as client:
        assert client.request("PUT", path, ROW, {}).body == client.request("POST", path, ROW, JSON).body


@pytest.mark.parametrize("path", ["/predict/m", "/invocations", "/v2/models/m/infer"])
def test_no_other_door_may_be_put(path: str) -> None:
    with on_host("m") as client:
        answer = client.request("PUT", path, ROW, JSON)
    assert (answer.status, answer.json()["allow"]) == (405, "POST")


def test_another_verb_is_told_of_both() -> None:
    with on_host("m") as client:
        answer = client.request("PATCH", "/predictions/m", ROW, JSON)
        assert (answer.status, answer.json()["allow"]) == (405, "POST, PUT")
        assert client.request("PUT", "/predictions/z", ROW, JSON).json()["code"] == "unknown_model"


def test_a_host_may_send_csv() -> None:
    with on_host("m") as client:
        assert client.request("POST", "/invocations", b"x\n1\n", {"content-type": "text/csv"}).status == 415


def test_vertex_names_its_routes() -> None:
    with on_host("m", **AIP) as client:
        assert client.request("GET", AIP["AIP_HEALTH_ROUTE"]).json() == {"status": "Healthy"}
        body = b'{"instances":[{"x":[1,2]},{"x":[0,0]}],"parameters":{}}'
        answer = client.request("POST", AIP["AIP_PREDICT_ROUTE"], body, JSON)
    assert answer.json() == {"predictions": [{"y": [3.0, 5.0]}, {"y": [1.0, 1.0]}]}


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"instances":{"x":[1,2]}}', b'{"instances":[1]}', b'{"instances":[{"z":1}]}'], ids=repr
)
def test_instances_that_do_not_fit_are_refused(body: bytes) -> None:
    with on_host("m", **AIP) as client:
        assert client.request("POST", AIP["AIP_PREDICT_ROUTE"], body, JSON).status == 400


@pytest.mark.parametrize("path", ["predict", "/a b", "/a?b", "/{model}", "/a%2fb", "/ä", "/a\n"], ids=repr)
def test_a_route_that_is_no_path_stops_the_start(path: str) -> None:
    with pytest.raises(Setup, match="AIP_PREDICT_ROUTE"):
        HostRoutes.of({"AIP_PREDICT_ROUTE": path})


def test_without_the_variables_there_are_no_such_routes() -> None:
    assert HostRoutes.of({}) == HostRoutes()


def invoked(*names: str) -> Response:
    with on_host(*names) as client:
        return client.request("POST", "/invocations", ROW, JSON)


def test_of_several_models_the_one_named_default_is_asked() -> None:
    assert invoked("a", "default", "b").json()["model_name"] == "default"


def test_of_several_models_none_is_guessed() -> None:
    answer = invoked("a", "b")
    assert (answer.status, answer.json()["code"]) == (404, "unknown_model")
    assert "a, b" in answer.json()["error"]
    assert "default" in answer.json()["error"]


def test_ping_is_honest() -> None:
    with on_host("m") as client:
        assert client.request("GET", "/ping").json() == {"status": "Healthy"}
        client.service.http.drain()
        assert client.request("GET", "/ping").status == 503
    with on_host() as client:
        assert client.request("GET", "/ping").status == 503


def test_a_door_closes_with_its_model() -> None:
    with on_host("m") as client:
        asyncio.run(client.service.catalog.remove("m", "1").stop())
        for path in ("/invocations", "/predictions/m", "/v1/models/m:predict", "/v2/models/m/generate"):
            assert client.request("POST", path, ROW, JSON).status == 404
