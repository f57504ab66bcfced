"""Binary tensors in the fast lane: the same bytes as by the other way, however they are cut, and none are kept."""

import random
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.serving import Served, binary, double, eventually, post, serving

ONE = np.array([1.0, 2.0], "<f4").tobytes()
LARGE = np.arange(150_000, dtype="<f4").tobytes()
ROWS = [75_000, 2]
REQUESTS = {
    "good": binary("double", "x", ONE, shape=[1, 2]),
    "an answer in JSON": binary("double", "x", ONE, shape=[1, 2], parameters={}),
    "one output of each kind": binary(
        "double",
        "x",
        ONE,
        shape=[1, 2],
        parameters={},
        outputs=[{"name": "y", "parameters": {"binary_data": True}}, {"name": "sum"}],
    ),
    "large": binary("double", "x", LARGE, shape=ROWS),
    "large, and its answer in JSON": binary("double", "x", LARGE, shape=ROWS, parameters={}),
    "large, and its answer compressed": binary("double", "x", LARGE, "accept-encoding: gzip", shape=ROWS),
    "large, and one output in JSON": binary(
        "double", "x", LARGE, shape=ROWS, outputs=[{"name": "sum", "parameters": {"binary_data": False}}]
    ),
    "no rows": binary("double", "x", b"", shape=[0, 2]),
    "no JSON": post("/v2/models/double/infer", ONE, "inference-header-content-length: 0"),
    "no JSON and large": post("/v2/models/double/infer", LARGE, "inference-header-content-length: 0"),
    "called JSON": binary("double", "x", ONE, shape=[1, 2]).replace(b"application/octet-stream", b"application/json"),
    "called something": binary("double", "x", ONE, shape=[1, 2]).replace(b"application/octet-stream", b"image/png"),
    "request id": binary("double", "x", ONE, "x-request-id: r-1", shape=[1, 2], id="7"),
    "the model raises": binary("double", "x", np.array([-666, 1], "<f4").tobytes(), shape=[1, 2]),
    "bytes are missing": binary("double", "x", ONE[:-1], shape=[1, 2]),
    "bytes are left over": binary("double", "x", ONE, shape=[1, 2], inputs=[]),
    "another shape": binary("double", "x", ONE, shape=[2, 1]),
    "unknown input": binary("double", "z", ONE, shape=[1, 2]),
    "unknown output": binary("double", "x", ONE, shape=[1, 2], outputs=[{"name": "z"}]),
    "texts": binary("text", "text", b"\x02\0\0\0ab", shape=[1], datatype="BYTES"),
    "half a text": binary("text", "text", b"\x02\0\0\0a", shape=[1], datatype="BYTES"),
    "the model in a thread": binary("slow", "seconds", bytes(4), shape=[1]),
    "a length that is no number": post("/v2/models/double/infer", ONE, "inference-header-content-length: x"),
    "a length beyond the body": post("/v2/models/double/infer", ONE, "inference-header-content-length: 9"),
    "a negative length": post("/v2/models/double/infer", ONE, "inference-header-content-length: -1"),
    "two lengths": binary("double", "x", ONE, "inference-header-content-length: 5", shape=[1, 2]),
    "not JSON": post("/v2/models/double/infer", b"{" + ONE, "inference-header-content-length: 1"),
    "rows with a length": post("/predict/double", '{"x":[1,2]}', "inference-header-content-length: 3"),
    "compressed": binary("double", "x", ONE, "content-encoding: gzip", shape=[1, 2]),
    "foreign host": binary("double", "x", ONE, shape=[1, 2]).replace(b"localhost", b"evil.example"),
    "too large": binary("double", "x", bytes(1_000_000), shape=[125_000, 2]),
    "close": binary("double", "x", LARGE, "connection: close", shape=ROWS),
    "HTTP/1.0": binary("double", "x", ONE, shape=[1, 2]).replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_both_ways_answer_with_the_same_bytes(name: str, lane_server: Served, asgi_server: Served) -> None:
    expected = asgi_server.ask(REQUESTS[name]).comparable()
    for _ in range(3):  # the lane knows the head of one that comes again
        assert lane_server.ask(REQUESTS[name]).comparable() == expected


def test_large_tensors_come_back_bit_by_bit(lane_server: Served) -> None:
    reply = lane_server.ask(binary("double", "x", LARGE, shape=ROWS, outputs=[{"name": "y"}]))
    text = reply.body[: int(reply.header(b"inference-header-content-length") or b"")]
    assert orjson.loads(text)["outputs"][0]["shape"] == ROWS
    assert np.array_equal(np.frombuffer(reply.body[len(text) :], "<f4"), np.arange(150_000, dtype="<f4") * 2 + 1)


def test_requests_that_come_again_may_be_cut_anywhere(lane_server: Served) -> None:
    kinds = [REQUESTS[name] for name in ("good", "large", "an answer in JSON", "no JSON", "request id")] + [double()]
    cuts = random.Random(0)
    requests = [kinds[cuts.randrange(len(kinds))] for _ in range(40)]
    expected = {request: lane_server.ask(request).comparable() for request in kinds}
    for most in (400_000, 50_000, 3_000):
        with lane_server.wire() as wire:
            for start in range(0, len(requests), 2):  # some are sent before the one in front of them is answered
                stream = b"".join(requests[start : start + 2])
                while stream:
                    size = cuts.randint(1, most)
                    wire.send(stream[:size])
                    stream = stream[size:]
                assert [wire.read().comparable() for _ in range(2)] == [expected[each] for each in requests[start : start + 2]]


def test_a_known_head_may_come_without_its_body(lane_server: Served) -> None:
    head, end, body = REQUESTS["large"].partition(b"\r\n\r\n")
    expected = lane_server.ask(REQUESTS["large"]).comparable()
    for _ in range(3):
        with lane_server.wire() as wire:
            wire.send(head + end)
            wire.send(body[:1])
            assert wire.ask(body[1:] + double()).comparable() == expected
            assert wire.read().comparable() == lane_server.ask(double()).comparable()


@pytest.mark.parametrize(
    "name",
    ["good", "large", "large, and its answer in JSON", "large, and its answer compressed", "large, and one output in JSON"],
)
def test_half_a_connection_still_gets_the_answer_of_a_quick_model(name: str, lane_server: Served) -> None:
    expected = lane_server.ask(REQUESTS[name]).comparable()
    with lane_server.wire() as wire:
        wire.send(REQUESTS[name])
        wire.socket.shutdown(socket.SHUT_WR)
        status, _, _, body = wire.read().comparable()
        assert (status, body) == (expected[0], expected[3])
        assert wire.closes()


@pytest.mark.parametrize("way", ["lane", "asgi"])
def test_a_client_that_goes_away_with_half_a_body_is_counted(way: str, lane_server: Served, asgi_server: Served) -> None:
    served = {"lane": lane_server, "asgi": asgi_server}[way]
    before = served.count("double", "cancelled")
    for request in (REQUESTS["large"], double()):
        with served.wire() as wire:
            wire.send(request[:-1])
    assert eventually(lambda: served.count("double", "cancelled") == before + 2)


@pytest.mark.parametrize("way", ["--http-fast-lane", "--no-http-fast-lane"])
def test_a_body_that_is_half_in_at_the_end_is_answered_and_nothing_behind_it(way: str, tmp_path: Path) -> None:
    with serving(tmp_path, way, "--timeouts-drain-grace-s", "20") as served:
        for request in (REQUESTS["good"], double()):
            with served.wire() as wire:
                assert wire.ask(request).header(b"connection") is None
        halves = [(served.wire(), request) for request in (REQUESTS["large"], REQUESTS["good"], double())]
        for wire, request in halves:
            wire.send(request[:-1])
        served.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: served.get("/v2/health/ready").status != 200)
        for wire, request in halves:
            with wire:
                answer = wire.ask(request[-1:])
                assert (answer.status, answer.header(b"connection")) == (200, b"close")
                assert wire.closes()
        served.process.send_signal(signal.SIGTERM)


@pytest.mark.clocked
def test_nobody_waits_for_a_large_answer_to_become_text(tmp_path: Path) -> None:
    """Numbers that are none take the longest: each is spelt out. Others are let in between, if that is in a thread."""
    long = binary("double", "x", np.full(600_000, np.nan, "<f4").tobytes(), shape=[300_000, 2], parameters={})
    waits = []
    with serving(tmp_path, "--workers", "0") as served, served.wire() as slow, served.wire() as quick:
        began = time.monotonic()
        slow.send(long)
        slow.socket.setblocking(False)
        while not slow.buffer:
            asked = time.monotonic()
            assert quick.ask(b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").status == 200
            waits.append(time.monotonic() - asked)
            with suppress(BlockingIOError):
                slow.buffer += slow.socket.recv(1)
        took = time.monotonic() - began
    assert max(waits) < took / 2


@contextmanager
def warm(folder: Path) -> Iterator[tuple[Served, int]]:
    """A server that has answered some large requests, and the bytes that it holds then."""
    with serving(folder, "--workers", "0") as served:
        for _ in range(20):
            served.ask(REQUESTS["large"])
        yield served, served.resident_bytes


def test_half_a_body_whose_client_goes_away_is_not_kept(tmp_path: Path) -> None:
    with warm(tmp_path) as (served, before):
        for gone in range(20, 401, 20):  # not all at once: the allocator would keep what that takes, to be used again
            for _ in range(20):
                with served.wire() as wire:
                    wire.send(REQUESTS["large"][:-1])
            assert eventually(lambda gone=gone: served.count("double", "cancelled") == gone)
        assert served.resident_bytes - before < 40e6  # they were 240 MB


def test_idle_connections_hold_nothing_of_what_they_sent(tmp_path: Path) -> None:
    with warm(tmp_path) as (served, before):
        wires = [served.wire() for _ in range(50)]
        for wire in wires:
            assert wire.ask(REQUESTS["large"]).status == 200
        grown = served.resident_bytes - before
        for wire in wires:
            wire.socket.close()
    assert grown < 10 * 2**20  # their bodies are 30 MB, and their answers 45
