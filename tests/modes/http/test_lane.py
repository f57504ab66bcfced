"""The two ways in answer with the same bytes; and the seams of the fast lane, over real connections."""

import gzip
import random
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.serving import Served, double, eventually, infer, post, serving, sleep

pytestmark = pytest.mark.clocked

NESTED = infer("double", "x", [[1, 2], [3, 4]], shape=[2, 2])
GET = b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n"


def chunked(request: bytes, size: int) -> bytes:
    """The same request with its body in chunks."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"\r\n".join(lines) + b"\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


REQUESTS = {
    "good": double(),
    "nested": NESTED,
    "integers for floats": infer("double", "x", [1, 2], shape=[1, 2]),
    "NaN and infinity": infer("double", "x", ["NaN", "-Infinity"], shape=[1, 2]),
    "text": infer("text", "text", ["a", "ä\u0000"], shape=[2], datatype="BYTES"),
    "id": double(id="a\"b'ä"),
    "empty id": double(id=""),
    "wrong id": double(id=7),
    "one output": double(outputs=[{"name": "sum"}]),
    "outputs in another order": double(outputs=[{"name": "sum"}, {"name": "y"}]),
    "unknown output": double(outputs=[{"name": "z"}]),
    "unknown field": double(whatever={"a": [1]}),
    "timeout": double(parameters={"timeout": 1_000_000}),
    "wrong timeout": double(parameters={"timeout": "soon"}),
    "request id": double("x-request-id: r-1"),
    "traceparent": double("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    "both marks": double("X-Request-Id: r-1", "TraceParent: t"),
    "long request id": double("x-request-id: " + "r" * 300),
    "odd request id": double("x-request-id: \xff\xfe"),
    "refusal with request id": post("/v2/models/double/infer", "{", "x-request-id: r-2"),
    "not JSON": post("/v2/models/double/infer", "{"),
    "empty": post("/v2/models/double/infer", ""),
    "an array": post("/v2/models/double/infer", "[]"),
    "no inputs": post("/v2/models/double/infer", '{"inputs":[]}'),
    "wrong name": infer("double", "y", [1, 2], shape=[1, 2]),
    "wrong shape": infer("double", "x", [1, 2, 3], shape=[1, 3]),
    "shape that data does not fill": infer("double", "x", [1, 2, 3], shape=[2, 2]),
    "no rows": infer("double", "x", [], shape=[0, 2]),
    "wrong datatype": infer("double", "x", [1, 2], shape=[1, 2], datatype="INT64"),
    "lossy": infer("double", "x", [2**53 + 1, 2], shape=[1, 2], datatype="INT64"),
    "unknown datatype": infer("double", "x", [1, 2], shape=[1, 2], datatype="fp32"),
    "out of range": infer("double", "x", [1, 1e39], shape=[1, 2]),
    "the model raises": infer("double", "x", [-666, 1], shape=[1, 2]),
    "no content type": post("/v2/models/double/infer", NESTED.partition(b"\r\n\r\n")[2], kind=None),
    "rows without a content type": post("/predict/double", '{"x":[1,2]}', kind=None),
    "a text without a content type": post("/predict/text", "a line", kind=None),
    "a text that is called JSON": post("/predict/text", "a line"),
    "a text that is called JSON, in capitals": post("/predict/text", "a line", kind="Application/JSON"),
    "content type with charset": post("/v2/models/double/infer", "{", kind="Application/JSON; charset=utf-8"),
    "form": post("/v2/models/double/infer", "a=b", kind="application/x-www-form-urlencoded"),
    "binary": post("/v2/models/double/infer", "ab", kind="application/octet-stream"),
    "chunked": chunked(double(), 10),
    "chunked in single bytes": chunked(double(), 1),
    "chunked and bad": chunked(post("/v2/models/double/infer", "{"), 1),
    "close": double("Connection: close"),
    "close of a refusal": post("/v2/models/double/infer", "{", "connection: close"),
    "keep-alive": double("connection: keep-alive"),
    "HTTP/1.0": double().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0 keep-alive": double("connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "upgrade": double("connection: upgrade", "upgrade: h2c"),
    "websocket": double("connection: upgrade", "upgrade: websocket"),
    "version": double().replace(b"/double/infer", b"/double/versions/1/infer"),
    "query": double().replace(b"/infer ", b"/infer?a=b "),
    "fragment": double().replace(b"/infer ", b"/infer#a "),
    "absolute form": double().replace(b"/v2/", b"http://localhost/v2/"),
    "escaped path": double().replace(b"/double/", b"/d%6fuble/"),
    "double slash": double().replace(b"/v2/", b"//v2/"),
    "dot": double().replace(b"/v2/", b"/v2/./"),
    "escaped slash": double().replace(b"/double/", b"/double%2f"),
    "matrix parameter": double().replace(b"/infer ", b"/infer;a=b "),
    "trailing slash": double().replace(b"/infer ", b"/infer/ "),
    "unknown model": infer("nothing", "x", [1, 2], shape=[1, 2]),
    "unknown version": double().replace(b"/double/infer", b"/double/versions/7/infer"),
    "unknown route": GET % b"/v3",
    "GET on infer": GET % b"/v2/models/double/infer",
    "PUT on infer": double().replace(b"POST", b"PUT"),
    "DELETE on ready": GET.replace(b"GET", b"DELETE") % b"/v2/health/ready",
    "HEAD of ready": post("/v2/health/ready", "", verb="HEAD"),
    "OPTIONS": post("/v2/models/double/infer", "", verb="OPTIONS"),
    "too large": post("/v2/models/double/infer", b" " * 1_000_001),
    "too large by its length alone": post("/v2/models/double/infer", "").replace(b"length: 0", b"length: 1000001"),
    "enormous length": post("/v2/models/double/infer", "").replace(b"length: 0", b"length: 9223372036854775808"),
    "gzip": post("/v2/models/double/infer", gzip.compress(b"{}", mtime=0), "content-encoding: gzip"),
    "identity": double("content-encoding: identity"),
    "unknown encoding": double("content-encoding: br"),
    "foreign host": double().replace(b"localhost", b"evil.example"),
    "loopback with port": double().replace(b"localhost", b"127.0.0.1:8000"),
    "IPv6 loopback": double().replace(b"localhost", b"[::1]:8000"),
    "host like loopback": double().replace(b"localhost", b"127.0.0.1.evil.example"),
    "no host": double().replace(b"host: localhost\r\n", b""),
    "empty host": double().replace(b"localhost", b""),
    "large headers": double(*[f"h{index}: {'v' * 1000}" for index in range(70)]),
    "10,000 headers": double(*[f"h{index}: v" for index in range(10_000)]),
    "one huge header": double("h: " + "v" * 10_000_000),
    "huge path": GET % (b"/" + b"a" * 100_000),
    "large but allowed headers": double(*[f"h{index}: {'v' * 1000}" for index in range(60)]),
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "negative length": post("/v2/models/double/infer", "").replace(b"length: 0", b"length: -1"),
    "two lengths": double("content-length: 5"),
    "length and chunks": double("transfer-encoding: chunked"),
    "unknown transfer encoding": double("transfer-encoding: gzip"),
    "folded header": double().replace(b"host: localhost", b"host: localhost\r\n  folded"),
    "space before colon": double("content-length : 5"),
    "a NUL in a header": double("a: \x00"),
    "non-ASCII path": GET % "/v2/models/\u00e4".encode(),
    "a row": post("/predict/double", '{"x":[1,2]}'),
    "rows": post("/predict/double", '[{"x":[1,2]},{"x":["NaN",4]}]'),
    "bare rows": post("/predict/double", "[[1,2]]"),
    "a bad row": post("/predict/double", '{"x":[1]}'),
    "a row of another name": post("/predict/double", '{"z":[1,2]}'),
    "plain text": post("/predict/text", "hallo", kind="text/plain"),
    "bytes that are no text": post("/predict/text", b"\xff\xfe", kind="application/octet-stream"),
    "NDJSON": post("/predict/double", '{"x":[1,2]}\n{"x":[3,4]}\n', kind="application/x-ndjson"),
    "CSV": post("/predict/slow", "seconds\n0\n0\n", kind="text/csv"),
    "the model in a thread": sleep(0.0),
    "metadata": GET % b"/v2/models/double",
    "server": GET % b"/v2",
    "page": GET % b"/docs",
}

EXPECT = double("expect: 100-continue")


def told(served: Served, request: bytes) -> object:
    with served.wire() as wire:
        answer = wire.ask(request)
        return answer.comparable(), wire.closes() if answer.header(b"connection") == b"close" else "open"


@pytest.mark.parametrize("name", REQUESTS)
def test_both_ways_answer_with_the_same_bytes(name: str, lane_server: Served, asgi_server: Served) -> None:
    assert told(lane_server, REQUESTS[name]) == told(asgi_server, REQUESTS[name])


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_comes_again_is_answered_with_the_same_bytes(name: str, lane_server: Served) -> None:
    """The lane knows the heads of its requests: byte for byte, and nothing else."""
    once, *again = [told(lane_server, REQUESTS[name]) for _ in range(3)]
    assert again == [once, once]


def test_what_expects_100_continue_gets_it_first(lane_server: Served, asgi_server: Served) -> None:
    head, _, body = EXPECT.partition(b"\r\n\r\n")
    for served in (lane_server, asgi_server):
        with served.wire() as wire:
            assert wire.ask(head + b"\r\n\r\n").status == 100
            assert wire.ask(body).comparable() == served.ask(double()).comparable()


def test_both_ways_keep_a_deadline_while_the_model_is_busy(lane_server: Served, asgi_server: Served) -> None:
    for served in (lane_server, asgi_server):
        start = time.monotonic()
        answer = served.ask(sleep(0.4, parameters={"timeout": 50_000}))
        assert 0.05 <= time.monotonic() - start < 0.2
        assert (answer.status, answer.code, answer.json()["phase"]) == (504, "deadline_passed", "total")


def test_requests_in_one_write_are_answered_in_their_order(lane_server: Served, asgi_server: Served) -> None:
    kinds = [double(x=7.0), sleep(0.003), chunked(double(x=9.0), 7), GET % b"/v2/health/live", double(id="last")]
    requests = kinds * 4
    for served in (lane_server, asgi_server):
        with served.wire() as wire:
            wire.send(b"".join(requests))
            together = [wire.read().comparable() for _ in requests]
        assert together == [served.ask(request).comparable() for request in requests]


def test_requests_that_come_again_may_be_cut_anywhere(lane_server: Served) -> None:
    requests = [double(x=float(index % 10)) for index in range(40)]
    stream, cuts = b"".join(requests), random.Random(0)
    expected = [lane_server.ask(request).comparable() for request in requests]
    for most in (1000, 300, 40):
        with lane_server.wire() as wire:
            rest = stream
            while rest:
                size = cuts.randint(1, most)
                wire.send(rest[:size])
                rest = rest[size:]
            assert [wire.read().comparable() for _ in requests] == expected


def test_a_body_that_looks_like_a_request_is_not_taken_for_one(lane_server: Served) -> None:
    inner = double()
    outer = post("/v2/models/double/infer", b" " * 10 + inner)
    head, _, body = outer.partition(b"\r\n\r\n")
    with lane_server.wire() as wire:
        assert wire.ask(inner).status == 200  # its head is known now
        wire.send(head + b"\r\n\r\n" + body[:10])
        answer = wire.ask(body[10:])
        assert (answer.status, answer.code) == (400, "invalid_json")
        assert wire.ask(inner).status == 200


def test_refusals_in_one_write_are_answered_in_their_order(lane_server: Served) -> None:
    requests = [double(x=float(index)) if index % 2 else post("/v2/models/double/infer", "{" * index) for index in range(20)]
    with lane_server.wire() as wire:
        wire.send(b"".join(requests))
        assert [wire.read().status for _ in requests] == [400, 200] * 10


def test_a_request_may_be_cut_at_every_byte(lane_server: Served) -> None:
    request = double("x-request-id: cut")
    expected = lane_server.ask(request).comparable()
    with lane_server.wire() as wire:
        for cut in range(1, len(request)):
            wire.send(request[:cut])
            wire.send(request[cut:])
            assert wire.read().comparable() == expected


def test_a_request_may_come_byte_by_byte(lane_server: Served) -> None:
    request = double()
    with lane_server.wire() as wire:
        for index in range(len(request)):
            wire.send(request[index : index + 1])
        assert wire.read().comparable() == lane_server.ask(request).comparable()


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_an_offer_to_upgrade_is_passed_over(protocol: str, lane_server: Served, asgi_server: Served) -> None:
    offer = double("connection: Upgrade, HTTP2-Settings", f"upgrade: {protocol}", "http2-settings: AAA")
    cut = len(offer) - 10
    for served in (lane_server, asgi_server):
        expected = served.ask(double()).comparable()
        with served.wire() as wire:
            wire.send(offer[:cut])
            wire.send(offer[cut:] + offer * 50 + double())
            assert [wire.read().comparable() for _ in range(52)] == [expected] * 52


@pytest.mark.parametrize("way", ["lane", "asgi"])
def test_an_offer_to_upgrade_may_be_cut_behind_another(way: str, lane_server: Served, asgi_server: Served) -> None:
    served = {"lane": lane_server, "asgi": asgi_server}[way]
    offer = double("connection: Upgrade", "upgrade: h2c", "x-request-id: cut")
    expected = served.ask(offer).comparable()
    for cut in range(1, len(offer)):
        with served.wire() as wire:
            wire.send(offer + offer[:cut])
            assert wire.read().comparable() == expected
            assert wire.ask(offer[cut:]).comparable() == expected


def test_headers_in_pieces_are_counted_together(lane_server: Served) -> None:
    with lane_server.wire() as wire:
        for piece in (
            b"POST /v2/models/double/infer HTTP/1.1\r\nhost: localhost\r\na: ",
            b"v" * 40_000 + b"\r\nb: ",
            b"v" * 40_000,
        ):
            wire.send(piece)
        wire.send(b"\r\ncontent-length: 0\r\n\r\n")
        assert wire.read().status == 431


def test_headers_behind_a_large_body_in_one_read_are_not_counted_with_it(lane_server: Served) -> None:
    large = post("/v2/models/double/infer", b" " * 200_000 + b"{")
    second = double()
    with lane_server.wire() as wire:
        wire.send(large + second[:40])
        assert wire.read().status == 400
        wire.send(second[40:])
        assert wire.read().status == 200


@pytest.mark.parametrize(
    "first", [double(), GET % b"/v2/health/live", GET % b"/v2", b""], ids=["lane", "probe", "asgi", "nothing"]
)
def test_an_idle_connection_is_closed_after_keep_alive(first: bytes, lane_server: Served) -> None:
    with lane_server.wire() as wire:
        if first.endswith(b"\r\n\r\n") or first == double():
            wire.ask(first)
        else:
            wire.send(first)
        start = time.monotonic()
        assert wire.closes()
        assert 0.9 < time.monotonic() - start < 2.5


def test_half_a_connection_still_gets_the_answer_of_a_quick_model(lane_server: Served) -> None:
    with lane_server.wire() as wire:
        wire.send(double())
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.read().status == 200
        assert wire.closes()


def test_a_connection_whose_request_was_answered_at_once_ends_with_its_client(tmp_path: Path) -> None:
    refused, failed = infer("double", "x", [1.0] * 3, shape=[1, 3]), double(x=-666.0)
    with serving(tmp_path, "--workers", "0", "--engine-cache-bytes", "100000") as served:
        for request, status in ((double(), 200), (double(), 200), (refused, 400), (failed, 500)):  # twice: from the cache
            with served.wire(timeout_s=2.0) as wire:
                assert wire.ask(request).status == status
                wire.socket.shutdown(socket.SHUT_WR)
                assert wire.closes()


@pytest.mark.parametrize("way", ["lane", "asgi"])
def test_a_client_that_goes_away_is_not_worked_for(way: str, lane_server: Served, asgi_server: Served) -> None:
    served = {"lane": lane_server, "asgi": asgi_server}[way]
    before, done = served.count("slow", "cancelled"), served.count("slow", "ok")
    with served.wire() as busy:
        busy.send(sleep(0.3))
        with served.wire() as gone:
            gone.send(sleep(0.01))
            assert eventually(
                lambda: b'foretell_in_flight_requests{model="slow",version="1"} 2.0' in served.get("/metrics").body
            )
        assert eventually(lambda: served.count("slow", "cancelled") == before + 1, within_s=0.1)
        assert busy.read().status == 200
    assert served.count("slow", "ok") == done + 1


def test_a_client_that_does_not_read_is_not_answered_into_memory(lane_server: Served) -> None:
    text = "x" * 50_000
    request = infer("text", "text", [text], shape=[1], datatype="BYTES")
    before = lane_server.resident_bytes
    with lane_server.wire(receive_bytes=4096) as wire:
        wire.socket.setblocking(False)
        sent = 0
        pending = request * 40
        stuck = time.monotonic()
        while sent < 2000 * len(request) and time.monotonic() - stuck < 0.5:
            try:
                size = wire.socket.send(pending[sent % len(request) :][: len(request)])
                sent += size
                stuck = time.monotonic()
            except BlockingIOError:
                pass
        assert sent < 2000 * len(request)
        assert lane_server.resident_bytes - before < 10 * 2**20
        wire.socket.settimeout(10)
        for _ in range(sent // len(request)):
            assert wire.read().status == 200
    assert lane_server.ask(double()).status == 200


def test_what_is_behind_a_last_request_is_not_answered(lane_server: Served, asgi_server: Served) -> None:
    for served in (lane_server, asgi_server):
        for last in (double("connection: close"), post("/v2/models/double/infer", "{", "connection: close")):
            with served.wire() as wire:
                wire.send(last + double())
                assert wire.read().header(b"connection") == b"close"
                assert wire.closes()


@pytest.mark.parametrize("way", ["--http-fast-lane", "--no-http-fast-lane"])
def test_what_is_in_flight_at_the_end_is_answered(way: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(tmp_path_factory.mktemp("stop"), way, "--timeouts-drain-grace-s", "0") as served:
        with served.wire() as waits, served.wire() as idle:
            assert idle.ask(double()).status == 200
            waits.send(sleep(0.5))
            assert eventually(
                lambda: b'foretell_in_flight_requests{model="slow",version="1"} 1.0' in served.get("/metrics").body
            )
            served.process.send_signal(signal.SIGTERM)
            answer = waits.read()
            assert (answer.status, answer.header(b"connection")) == (200, b"close")
            assert idle.closes()
        assert served.process.wait(10) == 0


def test_idle_connections_hold_nothing_of_what_they_sent(tmp_path: Path) -> None:
    large = infer("double", "x", [1.0] * 14000, shape=[7000, 2])
    refused = infer("double", "x", [1.0] * 14000, shape=[2000, 7])
    with serving(tmp_path, "--workers", "0") as served:
        served.ask(double())
        before = served.resident_bytes
        wires = [served.wire() for _ in range(300)]
        for number, wire in enumerate(wires):
            assert wire.ask((large, refused)[number % 2]).status in (200, 400)
        grown = served.resident_bytes - before
        for wire in wires:
            wire.socket.close()
    assert grown < 10 * 2**20  # each holding its body and its features, it was 20 MiB and more
