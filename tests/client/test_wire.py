"""Requests to bytes and bytes to answers, without a socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.client.options import Address
from foretell.client.wire import ERROR_BYTES, FRAME_BYTES, Message, Reader, Writer
from foretell.errors import Broken

ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    "hint first": b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello",
}


@pytest.mark.parametrize("name", ANSWERS)
@given(cut=st.data())
def test_an_answer_may_come_in_any_pieces(name: str, cut: st.DataObject) -> None:
    data, reader, at = ANSWERS[name], Reader(), 0
    while at < len(data):
        size = cut.draw(st.integers(1, len(data) - at))
        assert reader.answer is None
        reader.feed(data[at : at + size])
        at += size
    assert reader.answer is not None
    assert (reader.answer.status, bytes(reader.answer.body), reader.answer.headers["x"]) == (200, b"hello", "y")
    assert "a" not in reader.answer.headers
    assert reader.reusable


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    reader = Reader()
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    reader.feed(b"lo")
    assert reader.answer is None
    reader.feed_end()
    assert reader.answer is not None
    assert (reader.answer.body, reader.reusable) == (b"hello", False)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\n", ANSWERS["length"][:-1], ANSWERS["chunks"][:-2]])
def test_a_cut_answer_is_none(data: bytes) -> None:
    reader = Reader()
    if data:
        reader.feed(data)
    reader.feed_end()
    assert reader.answer is None


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        ANSWERS["length"] * 2,
    ],
    ids=["close", "old", "one too many"],
)
def test_a_connection_is_given_up_when_its_state_is_in_doubt(data: bytes) -> None:
    reader = Reader()
    reader.feed(data)
    assert reader.answer is not None
    assert not reader.reusable


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://h", "h"),
        ("http://h:80/", "h"),
        ("http://h:81", "h:81"),
        ("https://h", "h"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_the_host_header_leaves_out_the_usual_port(url: str, host: str) -> None:
    (sent,) = Writer(Address.parse(url), {}).write(Message("GET", "/v2"))
    assert bytes(sent).startswith(b"GET /v2 HTTP/1.1\r\nHost: %b\r\nUser-Agent: foretell/" % host.encode())
    assert bytes(sent).endswith(b"\r\n\r\n")


def test_small_requests_leave_in_one_piece_and_large_ones_uncopied() -> None:
    writer = Writer(Address.parse("http://h"), {})
    assert len(writer.write(Message("POST", "/", {}, [b"a", b"b"]))) == 1
    large = memoryview(bytearray(10**6))
    pieces = writer.write(Message("POST", "/", {}, [b"a", large]))
    assert pieces[2] is large
    assert b"Content-Length: 1000001\r\n" in bytes(pieces[0])


@pytest.mark.parametrize(
    ("start", "more", "most"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 4096, 10**6),
        (b"HTTP/1.1 400 X\r\n\r\n", b"a" * 4096, ERROR_BYTES),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"a" * 4096 + b"\r\n", 10**6),
        (b"HTTP/1.1 200 OK\r\n", b"x: " + b"a" * 4000 + b"\r\n", FRAME_BYTES),
        (b"HTTP/1.1 200 OK\r\nx: ", b"a" * 4096, FRAME_BYTES),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, FRAME_BYTES),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"x: " + b"a" * 4000 + b"\r\n", FRAME_BYTES),
    ],
    ids=["body", "error", "chunks", "headers", "one header", "hints", "trailers"],
)
def test_an_endless_answer_is_refused_soon_after_the_most_that_may_come(start: bytes, more: bytes, most: int) -> None:
    reader = Reader(10**6 if most == 10**6 else 2**30)
    reader.feed(start or more)
    with pytest.raises(Broken) as caught:
        feed_often(reader, more, times=most // len(more) + 2)
    assert caught.value.code == "foreign_answer"


def feed_often(reader: Reader, data: bytes, *, times: int) -> None:
    for _ in range(times):
        reader.feed(data)


def test_a_length_over_the_most_is_refused_before_the_body_comes() -> None:
    reader = Reader(4)
    with pytest.raises(Broken, match="longer than 4 bytes: allow more with"):
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")


def test_what_follows_an_answer_does_not_change_it() -> None:
    reader = Reader()
    reader.feed(ANSWERS["length"] + b"HTTP/1.1 400 X\r\nContent-Length: 3\r\nX: z\r\n\r\nbad")
    assert reader.answer is not None
    assert (reader.answer.status, bytes(reader.answer.body), reader.answer.headers["x"]) == (200, b"hello", "y")
