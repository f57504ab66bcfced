"""The ASGI application, as any ASGI host would call it."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import orjson
import pytest

from foretell.modes.http.framed import ON_LOOP_BYTES
from foretell.pipeline import Pipeline
from foretell.settings import HttpSettings, Settings
from foretell.testing import FakeBackend, InProcess, RecordingObserver

GOOD = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'


def call(client: InProcess, path: str, messages: list[dict[str, Any]], *headers: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    """What the application sends when the host gives it these messages, and then waits."""
    sent: list[dict[str, Any]] = []
    coming = list(messages)

    async def receive() -> MutableMapping[str, Any]:
        if coming:
            return coming.pop(0)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(dict(message))

    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    client._runner.run(client.service.http(scope, receive, send))
    return sent


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_parts_is_one_body() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        start, body = call(
            client, "/v2/models/m/infer", [part(GOOD[:9], more=True), part(b"", more=True), part(GOOD[9:], more=False)]
        )
    assert start["status"] == 200
    assert orjson.loads(body["body"])["outputs"][0]["data"] == [3.0, 5.0]


def test_a_body_over_the_limit_is_refused_before_the_rest_of_it_comes() -> None:
    with InProcess(Pipeline(FakeBackend()), settings=Settings(http=HttpSettings(max_request_bytes=100))) as client:
        start, body = call(client, "/v2/models/m/infer", [part(b" " * 60, more=True), part(b" " * 60, more=True)])
    assert start["status"] == 413
    assert orjson.loads(body["body"])["limit"] == 100


def test_the_largest_body_is_not_refused() -> None:
    with InProcess(Pipeline(FakeBackend()), settings=Settings(http=HttpSettings(max_request_bytes=len(GOOD)))) as client:
        assert client.request("POST", "/v2/models/m/infer", GOOD).status == 200
        assert client.request("POST", "/v2/models/m/infer", GOOD + b" ").status == 413


@pytest.mark.parametrize("came", [[], [part(b"{", more=True)]])
def test_a_client_that_goes_away_while_sending_is_not_answered(came: list[dict[str, Any]]) -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        assert call(client, "/v2/models/m/infer", [*came, {"type": "http.disconnect"}]) == []


def test_large_bodies_are_answered_like_small_ones() -> None:
    rows = ON_LOOP_BYTES // 4
    data = orjson.dumps([1] * rows * 2)
    with InProcess(Pipeline(FakeBackend())) as client:
        body = b'{"inputs":[{"name":"x","shape":[%d,2],"datatype":"FP32","data":%b}]}' % (rows, data)
        assert client.request("POST", "/v2/models/m/infer", body).json()["outputs"][0]["data"] == [3.0] * rows * 2


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (GOOD, {}, "ok"),
        (b"{", {}, "invalid_json"),
        (GOOD, {"content-type": "text/plain"}, "unsupported_content_type"),
        (GOOD.replace(b"[1,2]", b"[2,1]", 1), {}, "wrong_shape"),
    ],
)
def test_every_request_to_a_model_is_told_to_the_observers_once(body: bytes, headers: dict[str, str], code: str) -> None:
    observer = RecordingObserver()
    with InProcess(Pipeline(FakeBackend())) as client:
        engine = next(iter(client.service.catalog))
        engine.observers = (observer,)
        client.request("POST", "/v2/models/m/infer", body, headers)
        assert observer.codes == [code]
        assert engine.in_flight == 0


def test_a_mistake_of_our_own_is_one_callers_500() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        client.service.http.pages.metrics = lambda: 1 // 0  # type: ignore[assignment, return-value]
        answer = client.request("GET", "/metrics")
        assert (answer.status, answer.json()["code"]) == (500, "internal")
        assert client.request("GET", "/v2/health/live").status == 200


def test_draining_turns_unready_and_closes_connections_but_answers() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        client.service.http.drain()
        ready, answer = client.request("GET", "/v2/health/ready"), client.request("POST", "/v2/models/m/infer", GOOD)
        assert (ready.status, ready.headers["connection"]) == (503, "close")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert client.request("GET", "/v2/health/live").status == 200
        assert client.request("GET", "/v2/models/m/ready").status == 503


def test_marks_are_given_back_on_every_kind_of_answer() -> None:
    marks = {"x-request-id": "r", "traceparent": "t"}
    with InProcess(Pipeline(FakeBackend())) as client:
        for method, path in (("POST", "/v2/models/m/infer"), ("GET", "/v2"), ("GET", "/nowhere"), ("POST", "/predict/m")):
            answer = client.request(method, path, GOOD, marks)
            assert marks.items() <= answer.headers.items(), path


def test_a_server_on_the_network_takes_any_host() -> None:
    with InProcess(Pipeline(FakeBackend()), settings=Settings(host="0.0.0.0")) as client:
        assert client.request("GET", "/v2", headers={"host": "example.com"}).status == 200
