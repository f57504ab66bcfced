"""Compressed bodies both ways."""

import gzip
import zlib
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import Invalid, TooLarge
from foretell.modes.http.compress import accepted, unpack
from foretell.pipeline import Pipeline
from foretell.settings import HttpSettings, Settings
from foretell.tensors import Datatype, TensorSpec
from foretell.testing import FakeBackend, InProcess
from tests.modes.http.test_tensors import echo
from tests.serving import Served, infer

BODY = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
BARE = zlib.compressobj(wbits=-15)
PACKED = {
    "gzip": gzip.compress(BODY),
    "GZIP": gzip.compress(BODY),
    "two gzips": gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]),
    "deflate": zlib.compress(BODY),
    "bare deflate": BARE.compress(BODY) + BARE.flush(),
}


@pytest.mark.parametrize("way", PACKED)
def test_a_compressed_request_is_read(way: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": way.rsplit(maxsplit=1)[-1].rstrip("s")}
    with InProcess(Pipeline(FakeBackend())) as client:
        answer = client.request("POST", "/v2/models/m/infer", PACKED[way], headers)
    assert answer.json()["outputs"][0]["data"] == [3.0, 5.0]


@given(st.binary(max_size=3000), st.sampled_from([b"gzip", b"deflate"]))
def test_what_was_packed_comes_out(body: bytes, coding: bytes) -> None:
    packed = gzip.compress(body) if coding == b"gzip" else zlib.compress(body)
    assert unpack(packed, coding, 3000) == body


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("cut", [0, 1, 5, -1, -9])
def test_a_truncated_body_is_refused(coding: bytes, cut: int) -> None:
    packed = gzip.compress(BODY) if coding == b"gzip" else zlib.compress(BODY)
    with pytest.raises(Invalid):
        unpack(packed[:cut], coding, 10_000)


@pytest.mark.parametrize(
    "packed",
    [b"no", gzip.compress(BODY) + b"left over", zlib.compress(BODY)],
    ids=["not packed", "left overs", "deflate"],  # not by its bytes: a gzip holds the time
)
def test_what_is_no_gzip_is_refused(packed: bytes) -> None:
    with pytest.raises(Invalid):
        unpack(packed, b"gzip", 10_000)


def test_left_overs_behind_deflate_are_refused() -> None:
    with pytest.raises(Invalid):
        unpack(zlib.compress(BODY) + b"left over", b"deflate", 10_000)


@pytest.mark.parametrize("size", [1001, 10**8])
def test_no_more_than_the_limit_comes_out(size: int) -> None:
    with pytest.raises(TooLarge):
        unpack(zlib.compress(b" " * size), b"deflate", 1000)
    assert unpack(zlib.compress(b" " * 1000), b"deflate", 1000) == b" " * 1000


def test_a_bomb_of_many_gzips_is_refused() -> None:
    with pytest.raises(Invalid):
        unpack(gzip.compress(b"") * 1000, b"gzip", 1000)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (b"", None),
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br", b"gzip"),
        (b"deflate", b"deflate"),
        (b"br", None),
        (b"gzip;q=0, deflate", b"deflate"),
        (b"gzip; q=0.0", None),
        (b"gzip;q=NaN", None),
        (b"gzip;q=-1, deflate;q=1.0", b"deflate"),
        (b"gzip;q=2", None),
        (b"gzip;q=0.001", b"gzip"),
        (b"gzip;q=0.5", b"gzip"),
        (b"GZip", b"gzip"),
    ],
)
def test_a_client_says_what_it_takes(header: bytes, coding: bytes | None) -> None:
    assert accepted(header) == coding


def test_only_answers_above_the_limit_are_compressed() -> None:
    settings = Settings(http=HttpSettings(compress_above_bytes=1000))
    headers = {"content-type": "application/json", "accept-encoding": "gzip"}
    with InProcess(echo(TensorSpec("x", Datatype.INT8)), settings=settings) as client:
        small, large = (
            client.request(
                "POST",
                "/v2/models/m/infer",
                orjson.dumps({"inputs": [{"name": "x", "shape": [rows], "datatype": "INT8", "data": [7] * rows}]}),
                headers,
            )
            for rows in (10, 1000)
        )
    assert "content-encoding" not in small.headers
    assert (large.headers["content-encoding"], large.headers["vary"]) == ("gzip", "accept-encoding")
    assert orjson.loads(gzip.decompress(large.body))["outputs"][0]["data"] == [7] * 1000


@pytest.mark.parametrize("way", ["lane", "asgi"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
def test_both_ways_compress_large_answers_alike(way: str, coding: str, lane_server: Served, asgi_server: Served) -> None:
    served = {"lane": lane_server, "asgi": asgi_server}[way]
    request = infer("double", "x", [1] * 25_000, f"accept-encoding: {coding}", shape=[12_500, 2])
    with served.wire() as wire:
        first, second = wire.ask(request), wire.ask(request)
    assert first.comparable() == second.comparable()
    unpacked: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress, "identity": bytes}
    assert (first.header(b"content-encoding") or b"identity") == coding.encode()
    assert orjson.loads(unpacked[coding](first.body))["outputs"][0]["data"] == [3.0] * 25_000
