"""What attackers and broken clients send: a short 4xx in time, and the server is as it was before."""

import gzip
import time
from collections.abc import Callable
from contextlib import suppress

import orjson
import pytest

from tests.serving import Served, Wire, double, infer, post

INFER = "/v2/models/double/infer"
HEAD = b"POST /v2/models/double/infer HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
INTERNAL = (b"Traceback", b'File "', b"/work", b"/home", b"/tmp", b"site-packages", b".py", b"pid", b"0x7")
GROWTH_BYTES = 64 * 2**20


def tensor(**change: object) -> bytes:
    return post(INFER, orjson.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2], **change}]}))


def raw_tensor(data: bytes, shape: bytes = b"[1,2]") -> bytes:
    return post(INFER, b'{"inputs":[{"name":"x","shape":%b,"datatype":"FP32","data":%b}]}' % (shape, data))


def binary(raw: bytes, *, size: int, header: bytes | None = None, model: str = "double", **change: object) -> bytes:
    """An infer request with one binary tensor."""
    parameters = {"binary_data_size": size}
    sent = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": parameters, **change}
    text = orjson.dumps({"inputs": [sent]})
    length = header if header is not None else b"%d" % len(text)
    return post(f"/v2/models/{model}/infer", text + raw, f"inference-header-content-length: {length.decode()}", kind=None)


def one_byte_chunks() -> bytes:
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\n{\r\n" * 500_000 + b"0\r\n\r\n"


def tiny_inputs() -> bytes:
    return post(INFER, b'{"inputs":[' + b'{"name":"x","shape":[],"datatype":"","data":0},' * 200_000 + b"{}]}")


BYTES_ON_THE_WIRE: dict[str, Callable[[], bytes]] = {
    # -- JSON
    "100,000 brackets": lambda: post(INFER, b"[" * 100_000),
    "100,000 brackets for inputs": lambda: post(INFER, b'{"inputs":' + b"[" * 100_000),
    "100,000 brackets for data": lambda: raw_tensor(b"[" * 100_000 + b"]" * 100_000),
    "100,000 brackets in an unknown field": lambda: post(INFER, b'{"inputs":[],"z":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "100,000 braces in parameters": lambda: post(INFER, b'{"inputs":[],"parameters":' + b'{"a":' * 100_000),
    "50 MB of digits": lambda: raw_tensor(b"[1," + b"9" * 50_000_000 + b"]"),
    "50 MB of digits for a row": lambda: post("/predict/double", b'{"x":[1,' + b"9" * 50_000_000 + b"]}"),
    "50 MB of digits for a shape": lambda: raw_tensor(b"[1,2]", b"[" + b"9" * 50_000_000 + b"]"),
    "1e400": lambda: raw_tensor(b"[1,1e400]"),
    "NaN": lambda: raw_tensor(b"[1,NaN]"),
    "lone surrogate": lambda: post(INFER, b'{"id":"\\ud800","inputs":[]}'),
    "lone surrogate as a name": lambda: post(
        INFER, b'{"inputs":[{"name":"\\udfff","shape":[1],"datatype":"FP32","data":[1]}]}'
    ),
    "BOM": lambda: post(INFER, b"\xef\xbb\xbf" + double().partition(b"\r\n\r\n")[2]),
    "UTF-16": lambda: post(INFER, '{"inputs":[]}'.encode("utf-16")),
    "NUL": lambda: post(INFER, b"\x00" * 1000),
    "many tiny inputs": tiny_inputs,
    "many tiny outputs": lambda: double(outputs=[{"name": ""}] * 200_000),
    "many members": lambda: post(INFER, b"{" + b",".join(b'"%d":0' % index for index in range(500_000)) + b"}"),
    "rows of another kind": lambda: post("/predict/double", b"[" + b"0," * 1_000_000 + b"0]"),
    # -- tensors
    "shape [-1, 4]": lambda: tensor(shape=[-1, 4]),
    "shape [0]": lambda: tensor(shape=[0], data=[]),
    "shape []": lambda: tensor(shape=[]),
    "shape that wraps": lambda: tensor(shape=[4294967296, 4294967296], data=[]),
    "shape with 0 that wraps": lambda: tensor(shape=[0, 4294967296, 4294967296], data=[]),
    "shape [2^63]": lambda: tensor(shape=[2**63]),
    "shape [0, 2^63]": lambda: tensor(shape=[0, 2**63], data=[]),
    "shape of floats": lambda: tensor(shape=[1.0, 2.0]),
    "shape of booleans": lambda: tensor(shape=[True, 2]),
    "shape of strings": lambda: tensor(shape=["1", "2"]),
    "10,000 axes": lambda: tensor(shape=[1] * 10_000),
    "one too few": lambda: tensor(shape=[2, 2], data=[1, 2, 3]),
    "one too many": lambda: tensor(shape=[1, 2], data=[1, 2, 3]),
    "unknown datatype": lambda: tensor(datatype="FP99"),
    "lower-case datatype": lambda: tensor(datatype="fp32"),
    "datatype of a megabyte": lambda: tensor(datatype="F" * 2**20),
    "name of a megabyte": lambda: tensor(name="x" * 2**20),
    "no data": lambda: post(INFER, b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32"}]}'),
    "two inputs of one name": lambda: post(
        INFER, orjson.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}] * 2})
    ),
    "unknown name": lambda: tensor(name="z"),
    # -- binary tensors
    "binary length past the end": lambda: binary(b"", size=8, header=b"99999999"),
    "binary length negative": lambda: binary(b"", size=8, header=b"-1"),
    "binary size past the end": lambda: binary(b"\0" * 8, size=2**40),
    "binary size negative": lambda: binary(b"\0" * 8, size=-8),
    "binary left over": lambda: binary(b"\0" * 9, size=8),
    "binary shape that wraps": lambda: binary(b"\0" * 8, size=8, shape=[4294967296, 4294967296]),
    "binary and data": lambda: binary(b"\0" * 8, size=8, data=[1, 2]),
    "text of 4 GiB, as it says": lambda: binary(
        b"\xff\xff\xff\xff", size=4, datatype="BYTES", model="text", name="text", shape=[1]
    ),
    "negative timeout": lambda: double(parameters={"timeout": -1}),
    "NaN timeout": lambda: post(INFER, b'{"inputs":[],"parameters":{"timeout":NaN}}'),
    "form content type": lambda: post(INFER, b"{}", kind="application/x-www-form-urlencoded"),
    "huge declared shape": lambda: tensor(shape=[2**40, 2]),
    # -- HTTP
    "500,000 chunks of a byte": one_byte_chunks,
    "huge header": lambda: HEAD + b"a: " + b"v" * 20_000_000 + b"\r\n\r\n",
    "10,000 headers": lambda: HEAD + b"".join(b"h%d: v\r\n" % index for index in range(10_000)) + b"\r\n",
    "huge path": lambda: b"GET /" + b"a" * 5_000_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "negative length": lambda: HEAD + b"content-length: -1\r\n\r\n",
    "huge length": lambda: HEAD + b"content-length: 99999999999999999999999999\r\n\r\n",
    "large length": lambda: HEAD + b"content-length: 9223372036854775807\r\n\r\n",
    "two lengths": lambda: HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}",
    "length and chunks": lambda: HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "broken chunk": lambda: HEAD + b"transfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
    "huge chunk": lambda: HEAD + b"transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    "gzip bomb": lambda: post(INFER, gzip.compress(b" " * 50_000_000), "content-encoding: gzip"),
    "truncated gzip": lambda: post(INFER, gzip.compress(b"{}")[:-4], "content-encoding: gzip"),
    "unknown encoding": lambda: post(INFER, b"{}", "content-encoding: zstd, br"),
    "bare line feeds": lambda: b"POST / HTTP/1.1\nhost: localhost\ncontent-length: 5\n\n",
    "TLS": lambda: bytes.fromhex("16030102000100") + b"\xfc" * 500,
    "path out": lambda: b"GET /docs/..%2f..%2fapp.py HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "dots in a path": lambda: b"GET /docs/../app.py HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "encoded slash": lambda: b"GET /v2/models/double%2fready HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "NUL in a path": lambda: b"GET /v2/models/%00 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "absolute form of another host": lambda: b"GET http://example.com/v2 HTTP/1.1\r\nhost: example.com\r\n\r\n",
    "CONNECT": lambda: b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
    "TRACE": lambda: b"TRACE / HTTP/1.1\r\nhost: localhost\r\n\r\n",
}


def speak(wire: Wire, data: bytes) -> None:
    with suppress(ConnectionError):  # the server may hang up before all of it was sent
        wire.send(data)


@pytest.fixture(scope="module")
def served(hostile_server: Served) -> Served:
    """Warmed by one request that is as large as any here, so that growth means growth."""
    hostile_server.ask(BYTES_ON_THE_WIRE["50 MB of digits"](), timeout_s=30)
    return hostile_server


@pytest.mark.parametrize("name", BYTES_ON_THE_WIRE)
def test_a_hostile_request_is_refused_and_changes_nothing(name: str, served: Served) -> None:
    normal = served.ask(double()).comparable()
    before = served.resident_bytes
    data = BYTES_ON_THE_WIRE[name]()
    with served.wire() as wire:
        start = time.monotonic()
        speak(wire, data)
        answer = wire.read()
        seconds = time.monotonic() - start
    assert 400 <= answer.status < 500, answer.body
    assert answer.code
    assert seconds < 2
    assert len(answer.body) < 2000
    assert not any(part in answer.body for part in INTERNAL)
    assert served.process.poll() is None
    assert served.ask(double()).comparable() == normal
    assert served.resident_bytes - before < GROWTH_BYTES


@pytest.mark.parametrize(
    "data",
    [
        double().replace(b'{"inputs"', b'{"inputs":[],"inputs"'),
        infer("double", "x", [1, 2], shape=[1, 2], parameters={"timeout": 2**63}),
        infer("double", "x", [1, 2], shape=[1, 2], parameters={"mine": -1, "z": {"a": [None]}}),
    ],
    ids=["a key twice: the last one counts", "a timeout of ages", "parameters that nobody reads"],
)
def test_what_is_odd_but_clear_is_answered(data: bytes, served: Served) -> None:
    assert served.ask(_with_length(data)).status == 200


def _with_length(request: bytes) -> bytes:
    """The request with the length that its body has now."""
    return post(INFER, request.partition(b"\r\n\r\n")[2])


def test_unknown_model_names_add_no_metric_series(served: Served) -> None:
    before = served.get("/metrics").body.count(b"\n")
    with served.wire() as wire:
        for index in range(500):
            assert wire.ask(infer(f"none{index}", "x", [1], shape=[1])).status == 404
    assert served.get("/metrics").body.count(b"\n") - before < 50


def test_what_a_client_sends_cannot_forge_a_line_of_the_log(served: Served) -> None:
    served.ask(infer("double", "x", [-666, 1], "x-request-id: a\x1b[31m", shape=[1, 2]))
    served.ask(post("/v2/models/z%0aforged/infer", "{}"))
    assert "\x1b" not in served.log.read_text()
    assert "\nforged" not in served.log.read_text()


def test_many_idle_and_half_open_connections_do_not_stop_the_rest(served: Served) -> None:
    wires = [served.wire() for _ in range(200)]
    try:
        for index, wire in enumerate(wires):
            wire.send(double()[: index % 100])
        start = time.monotonic()
        assert served.ask(double()).status == 200
        assert time.monotonic() - start < 0.5
    finally:
        for wire in wires:
            wire.socket.close()
