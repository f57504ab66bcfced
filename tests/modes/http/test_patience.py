"""Connections that keep the server waiting: hung up on in time, and nobody else waits for them."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.serving import Served, Wire, binary, double, eventually, infer, post, serving

pytestmark = pytest.mark.clocked

RECEIVE_S = 0.4
HALF = double()[:-5]
MANY = 300


@pytest.fixture(scope="module", params=["--http-fast-lane", "--no-http-fast-lane"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    limits = ("--timeouts-receive-s", str(RECEIVE_S), "--http-keep-alive-s", "30")
    with serving(tmp_path_factory.mktemp("patience"), request.param, *limits) as served:
        yield served


@pytest.mark.parametrize(
    "start",
    [
        HALF,
        post("/v2/repository/index", b"{}")[:-1],
        double().replace(b"content-length: ", b"content-length: 9"),
        binary("double", "x", bytes(80_000), shape=[10_000, 2])[:-1],
    ],
    ids=["infer", "page", "large", "binary"],
)
def test_a_body_that_stops_coming_is_refused(start: bytes, server: Served) -> None:
    with server.wire() as wire:
        began = time.monotonic()
        reply = wire.ask(start)
        assert RECEIVE_S * 0.9 < time.monotonic() - began < RECEIVE_S + 1
        assert (reply.status, reply.code, reply.json()["setting"]) == (408, "request_stalled", "timeouts.receive_s")
        assert reply.header(b"connection") == b"close"
        assert wire.closes()


def test_both_ways_say_it_with_the_same_bytes(tmp_path_factory: pytest.TempPathFactory) -> None:
    said = []
    half = double("x-request-id: r-1")[:-5]
    for way in ("--http-fast-lane", "--no-http-fast-lane"):
        with serving(tmp_path_factory.mktemp("way"), way, "--timeouts-receive-s", "0.1") as served:
            said.append(served.ask(half).comparable())
    assert said[0] == said[1]


def test_a_slow_body_that_goes_on_coming_is_answered(server: Served) -> None:
    request = double()
    with server.wire() as wire:
        wire.send(request[:-6])
        for index in range(6, 0, -1):
            time.sleep(RECEIVE_S / 3)  # the pause is what is tested
            wire.send(request[-index : len(request) - index + 1])
        assert wire.read().status == 200


@pytest.mark.parametrize("first", [b"", double()], ids=["first", "later"])
def test_headers_that_dribble_are_refused(first: bytes, server: Served) -> None:
    with server.wire() as wire:
        if first:
            assert wire.ask(first).status == 200
        began = time.monotonic()
        wire.send(b"POST /v2/models/double/infer HTTP/1.1\r\n")
        wire.socket.settimeout(0.05)
        reply = None
        while reply is None and time.monotonic() - began < 5:
            wire.send(b"a: b\r\n")
            with suppress(TimeoutError):
                reply = wire.read()
        assert reply is not None
        assert (reply.status, reply.code) == (408, "request_stalled")
        assert time.monotonic() - began < RECEIVE_S + 1


def test_a_stalled_request_is_counted_once(server: Served) -> None:
    before = server.count("double", "request_stalled")
    server.ask(HALF)
    assert eventually(lambda: server.count("double", "request_stalled") == before + 1)


def test_a_client_that_never_reads_its_answer_is_hung_up_on(server: Served) -> None:
    request = infer("text", "text", ["x" * 2_000_000], shape=[1], datatype="BYTES")
    with server.wire(receive_bytes=4096) as wire:
        wire.send(request)
        assert eventually(lambda: _is_reset(wire), within_s=RECEIVE_S * 2 + 3)


def test_a_client_that_reads_slowly_gets_all_of_its_answer(server: Served) -> None:
    request = infer("text", "text", ["x" * 1_000_000], shape=[1], datatype="BYTES")
    with server.wire(receive_bytes=4096) as wire:
        wire.send(request)
        got, began = 0, time.monotonic()
        while got < 1_000_000:
            got += len(wire.socket.recv(50_000))
            if time.monotonic() - began < RECEIVE_S * 3:
                time.sleep(RECEIVE_S / 5)  # reading slowly is what is tested


def test_many_slow_senders_keep_nobody_waiting(server: Served) -> None:
    slow = [Wire(server.port) for _ in range(MANY)]
    try:
        for index, wire in enumerate(slow):
            wire.send(HALF if index % 2 else b"POST /v2/models/double/infer HTTP/1.1\r\nhost: loc")
        took = []
        for _ in range(20):
            began = time.monotonic()
            assert server.ask(double()).status == 200
            took.append(time.monotonic() - began)
        assert sorted(took)[10] < 0.05
        assert {wire.read().status for wire in slow} == {408}
    finally:
        for wire in slow:
            wire.socket.close()


def test_an_idle_connection_is_not_hurried(server: Served) -> None:
    with server.wire() as wire:
        assert wire.ask(double()).status == 200
        time.sleep(RECEIVE_S * 2)  # idle for longer than a body may pause
        assert wire.ask(double()).status == 200


def _is_reset(wire: Wire) -> bool:
    """Whether the server hung up, though nothing was read: writing is then an error."""
    try:
        wire.socket.send(b"x")
    except OSError:
        return True
    return wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
