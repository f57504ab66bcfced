from foretell.modes.http.heads import Heads
from foretell.modes.http.known import MOST_BYTES, MOST_HEADERS, MOST_HEADS, KnownHeads

HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: 2\r\n\r\n"


def learned(chunk: bytes, headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    known = KnownHeads()
    known.learn(chunk, len(chunk), b"/v2/models/m/infer", Heads(headers), keep_alive=True)
    return list(known)


def test_a_head_is_known_when_its_request_came_alone_and_whole() -> None:
    assert learned(HEAD + b"{}", [(b"content-length", b"2")]) == [HEAD]


def test_a_head_is_not_known_with_other_bytes_around_its_request() -> None:
    length = [(b"content-length", b"2")]
    for chunk in (b"", b"{}", HEAD, HEAD + b"{}{", HEAD + b"{}" + HEAD + b"{}", b"\r\n\r\n" + HEAD + b"{}"):
        assert learned(chunk, length) == []


def test_a_head_is_known_when_only_the_beginning_of_its_request_was_kept() -> None:
    known = KnownHeads()
    head = HEAD.replace(b": 2", b": 9000")
    heads = Heads([(b"content-length", b"9000")])
    known.learn(head + b"{" * 100, len(head) + 9000, b"/", heads, keep_alive=True)
    assert (list(known), known[head].size) == ([head], len(head) + 9000)
    for size in (0, len(head), len(head) + 8999, len(head) + 9001):
        known.clear()
        known.learn(head + b"{" * 100, size, b"/", heads, keep_alive=True)
        assert not known


def test_a_head_that_names_its_request_is_not_kept() -> None:
    assert learned(HEAD + b"{}", [(b"content-length", b"2"), (b"x-request-id", b"r-1")]) == []


def test_a_long_head_is_not_kept() -> None:
    assert learned(b"h: " + b"v" * MOST_BYTES + HEAD + b"{}", [(b"content-length", b"2")]) == []


def test_a_head_of_very_many_headers_is_not_kept() -> None:
    headers = [(b"content-length", b"2"), *[(b"a", b"%d" % number) for number in range(MOST_HEADERS)]]
    assert learned(HEAD + b"{}", headers) == []
    assert learned(HEAD + b"{}", headers[:-1]) == [HEAD]


def test_no_more_heads_are_kept_than_fit() -> None:
    known = KnownHeads()
    for number in range(MOST_HEADS + 1):
        chunk = b"a: %d\r\n" % number + HEAD + b"{}"
        known.learn(chunk, len(chunk), b"/", Heads([(b"content-length", b"2")]), keep_alive=True)
    assert len(known) == 1
