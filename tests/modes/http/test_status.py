"""The table of statuses: complete, and every row of it the answer to a real request."""

import asyncio
import gc
import gzip
import logging

import numpy as np
import orjson
import pytest

from foretell.codes import CODES
from foretell.engine.engine import Engine
from foretell.errors import Busy, Cancelled, ForetellError, Kind, Setup, WrongVerb
from foretell.modes.http.status import STATUS, refusal, unexpected
from foretell.pipeline import Pipeline
from foretell.request import Request
from foretell.settings import EngineSettings
from foretell.tensors import Arrays
from foretell.testing import FakeBackend
from tests.serving import Served, double, eventually, infer, post, sleep

BOMB = gzip.compress(b" " * 10**8)


def predict(body: object) -> bytes:
    """A request to the quick model as TensorFlow Serving's clients make it."""
    return post("/v1/models/double:predict", body if isinstance(body, bytes) else orjson.dumps(body))


BAD = post("/v2/models/double/infer", "{")
Row = tuple[str, bytes, int, str, dict[bytes, bytes]]
ROWS: list[Row] = [
    ("malformed JSON", BAD, 400, "invalid_json", {}),
    ("wrong name", infer("double", "z", [1, 2], shape=[1, 2]), 400, "unknown_input", {}),
    ("wrong datatype", infer("double", "x", ["a", "b"], shape=[1, 2], datatype="BYTES"), 400, "wrong_dtype", {}),
    ("wrong shape", infer("double", "x", [1], shape=[1, 1]), 400, "wrong_shape", {}),
    ("foreign host", double().replace(b"localhost", b"example.com"), 403, "foreign_host", {}),
    ("unknown model", infer("z", "x", [1], shape=[1]), 404, "unknown_model", {}),
    ("unknown version", double().replace(b"double/", b"double/versions/9/"), 404, "unknown_version", {}),
    ("unknown route", post("/z", ""), 404, "unknown_route", {}),
    ("wrong verb", post("/v2/models/double/infer", "", verb="PUT"), 405, "wrong_verb", {b"allow": b"POST"}),
    ("wrong verb on a page", post("/v2", "", verb="POST"), 405, "wrong_verb", {b"allow": b"GET, HEAD"}),
    ("large body", post("/v2/models/double/infer", b" " * 1_000_001), 413, "body_too_large", {}),
    ("large headers", double("h: " + "v" * 70_000), 431, "headers_too_large", {b"connection": b"close"}),
    (
        "content type",
        post("/v2/models/double/infer", "a=b", kind="application/x-www-form-urlencoded"),
        415,
        "unsupported_content_type",
        {},
    ),
    ("encoding", double("content-encoding: br"), 415, "unsupported_encoding", {}),
    ("no gzip", double("content-encoding: gzip"), 400, "invalid_body", {}),
    ("a bomb", post("/v2/models/double/infer", BOMB, "content-encoding: gzip"), 413, "body_too_large", {}),
    ("binary length", double("inference-header-content-length: 9999"), 400, "invalid_body", {}),
    ("administration", post("/v2/repository/models/double/unload", ""), 403, "admin_off", {}),
    ("unknown label", double().replace(b"double/", b"double/labels/z/"), 404, "unknown_label", {}),
    ("several models", post("/invocations", "{}"), 404, "unknown_model", {}),
    ("generate", post("/v2/models/double/generate_stream", "{}"), 400, "missing_input", {}),
    ("deadline", sleep(0.2, parameters={"timeout": 20_000}), 504, "deadline_passed", {}),
    ("the model raised", infer("double", "x", [-666, 1], shape=[1, 2]), 500, "model_failed", {}),
]
TENSORFLOW: list[Row] = [
    ("malformed JSON", predict(b"{"), 400, "invalid_json", {}),
    ("wrong name", predict({"instances": [{"z": [1, 2]}]}), 400, "bad_row", {}),
    ("wrong datatype", predict({"instances": [["a", "b"]]}), 400, "bad_row", {}),
    ("wrong shape", predict({"instances": [[1]]}), 400, "wrong_shape", {}),
    ("wrong verb", post("/v1/models/double:predict", "", verb="PUT"), 405, "wrong_verb", {b"allow": b"POST"}),
    ("foreign host", predict({}).replace(b"localhost", b"example.com"), 403, "foreign_host", {}),
    ("unknown model", predict({}).replace(b"double", b"z"), 404, "unknown_model", {}),
    ("unknown version", predict({}).replace(b"double", b"double/versions/9"), 404, "unknown_version", {}),
    ("unknown label", predict({}).replace(b"double", b"double/labels/z"), 404, "unknown_label", {}),
    ("large body", predict(b" " * 1_000_001), 413, "body_too_large", {}),
    ("content type", post("/v1/models/double:predict", "{}", kind="text/csv"), 415, "unsupported_content_type", {}),
    ("the model raised", predict({"instances": [[-666, 1]]}), 500, "model_failed", {}),
]
ROWS += [(f"TensorFlow Serving: {row[0]}", *row[1:]) for row in TENSORFLOW]


def test_every_kind_has_a_status() -> None:
    assert set(STATUS) == set(Kind)


@pytest.mark.parametrize("way", ["lane", "asgi"])
@pytest.mark.parametrize(("request_", "status", "code", "headers"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_row_of_the_table_is_a_real_answer(
    request_: bytes, status: int, code: str, headers: dict[bytes, bytes], way: str, lane_server: Served, asgi_server: Served
) -> None:
    answer = {"lane": lane_server, "asgi": asgi_server}[way].ask(request_)
    assert (answer.status, answer.code) == (status, code)
    assert headers.items() <= dict(answer.headers).items()
    assert answer.header(b"content-type") == b"application/json"
    assert set(answer.json()) >= {"error", "code"}
    assert code in CODES


@pytest.mark.parametrize("way", ["lane", "asgi"])
def test_a_full_queue_is_429_with_the_time_to_wait(way: str, lane_server: Served, asgi_server: Served) -> None:
    served = {"lane": lane_server, "asgi": asgi_server}[way]
    wires = [served.wire() for _ in range(6)]
    wires[0].send(sleep(2.0))
    assert eventually(lambda: b'foretell_in_flight_requests{model="slow",version="1"} 1.0' in served.get("/metrics").body)
    for wire in wires[1:]:
        wire.send(sleep(0.0))
    answers = [wire.read() for wire in wires]
    for wire in wires:
        wire.socket.close()
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.status for answer in answers} == {200, 429}
    assert {(answer.code, answer.header(b"retry-after")) for answer in refused} == {("queue_full", b"1")}


def test_what_failed_has_an_id_that_the_log_has_too(lane_server: Served) -> None:
    answer = lane_server.ask(infer("double", "x", [-666, 1], "x-request-id: find-me", shape=[1, 2]))
    told = answer.json()
    assert set(told) == {"error", "code", "error_id"}
    assert b"secret" not in answer.body
    assert eventually(lambda: told["error_id"] in lane_server.log.read_text())
    line = next(line for line in lane_server.log.read_text().splitlines() if told["error_id"] in line)
    assert "find-me" in line
    assert "the secret is in" in lane_server.log.read_text()


def test_a_mistake_is_told_by_its_id_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "foretell"):
        answer = refusal(unexpected(ZeroDivisionError("/etc/passwd")))
    assert answer.status == 500
    assert b"passwd" not in answer.body
    assert orjson.loads(answer.body)["error_id"] == vars(caplog.records[0])["error_id"]


def test_a_refusal_of_the_operator_is_not_told_to_a_caller() -> None:
    answer = refusal(Setup("missing_file", "/home/x/model.onnx is not there"))
    assert answer.status == 500
    assert b"/home" not in answer.body


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (Busy("queue_full", "full", retry_after_s=0.2), (b"retry-after", b"1")),
        (Busy("queue_full", "full", retry_after_s=2.1), (b"retry-after", b"3")),
        (WrongVerb("wrong_verb", "no", allow="GET"), (b"allow", b"GET")),
    ],
)
def test_some_refusals_carry_a_header(error: ForetellError, header: tuple[bytes, bytes]) -> None:
    assert header in refusal(error).headers


def test_a_client_that_is_gone_has_a_status_for_the_log() -> None:
    assert refusal(Cancelled("cancelled", "gone")).status == 499


def test_what_was_refused_leaves_nothing_for_the_garbage_collector() -> None:
    """A collection looks at all that there is, for tens of milliseconds: refusals must not bring it about."""
    told: list[int] = []

    def reply(outputs: Arrays | None, error: ForetellError | None) -> None:
        assert error is not None
        told.append(refusal(error).status)

    async def main() -> int:
        engine = Engine("m", "1", Pipeline(FakeBackend()), EngineSettings())
        await engine.start()
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                engine.infer_nowait(Request({"z": np.zeros((1, 2), np.float32)}, received=0.0), reply)
            return gc.collect()
        finally:
            gc.enable()

    left = asyncio.run(main())
    assert told == [400] * 50
    assert left < 50
