"""Probes: answered without a router, the same both ways, and honest."""

import time

import pytest

from tests.serving import Served, double, infer

pytestmark = pytest.mark.clocked

PATHS = ("/v2/health/live", "/v2/health/ready", "/ping", "/v2/models/double/ready", "/v2/models/double/versions/1/ready")
GET = b"GET %b HTTP/1.1\r\nhost: localhost\r\n"


@pytest.mark.parametrize("path", PATHS)
def test_both_ways_answer_a_probe_with_the_same_bytes(path: str, lane_server: Served, asgi_server: Served) -> None:
    for more in (b"", b"x-request-id: p-1\r\n", b"connection: close\r\n", b"content-length: 0\r\n"):
        request = GET % path.encode() + more + b"\r\n"
        first, second = (served.ask(request) for served in (lane_server, asgi_server))
        assert first.comparable() == second.comparable()
        assert first.status == 200
        assert first.json().get("ready", True) is True


def test_a_probe_between_requests_of_one_connection_keeps_its_place(lane_server: Served) -> None:
    probe = GET % b"/v2/health/ready" + b"\r\n"
    with lane_server.wire() as wire:
        wire.send((double(id="a") + probe + infer("slow", "seconds", [0.01], shape=[1]) + probe) * 3)
        bodies = [wire.read().body for _ in range(12)]
    assert [body.startswith(b'{"ready":true') for body in bodies] == [False, True] * 6


def test_a_probe_with_a_foreign_host_is_refused(lane_server: Served, asgi_server: Served) -> None:
    for served in (lane_server, asgi_server):
        assert served.ask(b"GET /v2/health/ready HTTP/1.1\r\nhost: evil.example\r\n\r\n").status == 403


def test_a_probe_with_a_body_reads_it(lane_server: Served) -> None:
    with lane_server.wire() as wire:
        assert wire.ask(GET % b"/v2/health/live" + b"content-length: 3\r\n\r\nabc").status == 200
        assert wire.ask(double()).status == 200


def test_the_probe_of_an_unknown_model_is_404(lane_server: Served) -> None:
    assert lane_server.get("/v2/models/nothing/ready").status == 404


def test_probes_are_answered_in_time_while_far_more_is_asked_than_can_be(lane_server: Served) -> None:
    crowd = [lane_server.wire() for _ in range(100)]
    took = []
    try:
        for wire in crowd:
            wire.send(double() * 60)
        for _ in range(15):
            began = time.monotonic()
            assert lane_server.get("/v2/health/ready").status == 200
            took.append(time.monotonic() - began)
        assert {wire.read().status for wire in crowd for _ in range(60)} <= {200, 429}
    finally:
        for wire in crowd:
            wire.socket.close()
    assert sorted(took)[len(took) // 2] < 0.05
