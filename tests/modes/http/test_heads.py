"""What the headers of a request say to a door."""

import pytest

from foretell.errors import Denied, TooLarge, Unsupported
from foretell.modes.http.heads import Heads, check_body, check_host, is_json, is_loopback


def test_a_request_without_headers_says_nothing() -> None:
    heads = Heads([])
    assert (heads.length, heads.content_type, heads.encoding, heads.host, heads.odd, heads.marks) == (
        -1,
        b"",
        b"",
        b"",
        False,
        [],
    )


def test_marks_are_given_back_as_they_came() -> None:
    marks = [(b"x-request-id", b"r-1"), (b"traceparent", b"00-1-2-01")]
    heads = Heads([(b"accept", b"*/*"), *marks])
    assert heads.marks == marks


@pytest.mark.parametrize("value", [b"a\tb", b"\xff", b"r" * 257, b"a\r\nset-cookie: b", b"\x1b[31m"])
def test_a_mark_that_could_do_harm_is_not_given_back(value: bytes) -> None:
    assert Heads([(b"x-request-id", value)]).marks == []


def test_requests_do_not_share_their_marks() -> None:
    Heads([(b"x-request-id", b"one")])
    assert Heads([]).marks == []


@pytest.mark.parametrize("name", [b"transfer-encoding", b"expect", b"upgrade"])
def test_what_the_fast_lane_does_not_do_is_odd(name: bytes) -> None:
    assert Heads([(name, b"x")]).odd


def test_a_length_of_any_number_of_digits_is_too_large_at_most() -> None:
    heads = Heads([(b"content-length", b"9" * 1000)])
    with pytest.raises(TooLarge) as caught:
        check_body(heads, 10, json_only=True)
    assert caught.value.details["limit"] == 10
    assert caught.value.details["setting"] == "http.max_request_bytes"


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip", b"x" * 1000])
def test_a_body_that_is_encoded_otherwise_is_refused(encoding: bytes) -> None:
    with pytest.raises(Unsupported) as caught:
        check_body(Heads([(b"content-encoding", encoding)]), 10, json_only=True)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("kind", [b"", b"application/json", b"Application/JSON;charset=utf-8", b" application/json ; a=b"])
def test_json_is_known_by_its_content_type(kind: bytes) -> None:
    assert is_json(kind)
    check_body(Heads([(b"content-type", kind)]), 10, json_only=True)


@pytest.mark.parametrize("kind", [b"application/x-www-form-urlencoded", b"text/json", b"application/json2"])
def test_other_content_types_are_refused_with_what_is_read(kind: bytes) -> None:
    with pytest.raises(Unsupported) as caught:
        check_body(Heads([(b"content-type", kind)]), 10, json_only=True)
    assert caught.value.details["supported"] == "application/json, application/octet-stream"


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:8000", b"127.0.0.1", b"127.0.0.1:80", b"[::1]", b"[::1]:8000", b""])
def test_loopback_is_known_by_its_names(host: bytes) -> None:
    check_host(Heads([(b"host", host)]))


@pytest.mark.parametrize(
    "host",
    [
        b"example.com",
        b"localhost.example.com",
        b"127.0.0.1.nip.io",
        b"[::2]",
        b"[::1].example.com",
        b"a@localhost",
        b"\xff",
        b":80",
    ],
)
def test_a_foreign_host_is_refused(host: bytes) -> None:
    assert not is_loopback(host)
    with pytest.raises(Denied):
        check_host(Heads([(b"host", host)]))
