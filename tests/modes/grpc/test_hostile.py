"""What attackers and broken clients send over gRPC: a short refusal in time, and the server is as it was before."""

import time
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from foretell.modes.grpc.stubs import inference_pb2 as messages
from foretell.modes.grpc.stubs import tensorflow_serving_pb2 as serving
from tests.modes.grpc.asking import INFER, PREDICT, Channel, Tensor, ask, double, refused
from tests.serving import Served

BAD = grpc.StatusCode.INVALID_ARGUMENT
INTERNAL = ("Traceback", 'File "', "/work", "/home", "/tmp", "site-packages", ".py", "0x7", "google")
GROWTH_BYTES = 64 * 2**20
MEGABYTE = 990_000


def tensor(shape: list[int], raw: bytes = b"\0" * 8, datatype: str = "FP32", name: str = "x", model: str = "double") -> bytes:
    given = Tensor(name=name, datatype=datatype, shape=shape)
    return messages.ModelInferRequest(model_name=model, inputs=[given], raw_input_contents=[raw]).SerializeToString()


def typed(model: str = "double", **contents: object) -> bytes:
    given = {"name": "x", "datatype": "FP32", "shape": [1, 2], "contents": contents}
    return messages.ModelInferRequest(model_name=model, inputs=[given]).SerializeToString()


def raws(count: int) -> bytes:
    given = Tensor(name="x", datatype="FP32", shape=[1, 2])
    return messages.ModelInferRequest(model_name="double", inputs=[given], raw_input_contents=[b""] * count).SerializeToString()


def nested(depth: int) -> bytes:
    """Unknown groups in groups."""
    return double() + b"\x7b" * depth + b"\x7c" * depth


def tensorflow(**proto: object) -> bytes:
    return serving.PredictRequest(model_spec={"name": "double"}, inputs={"x": proto}).SerializeToString()  # type: ignore[dict-item]


def dims(*sizes: int) -> dict[str, object]:
    return {"dim": [{"size": size} for size in sizes]}


MESSAGES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "cut off": (INFER, lambda: double()[:-3]),
    "noise": (INFER, lambda: bytes(range(256)) * 1000),
    "JSON": (INFER, lambda: b'{"inputs":[]}'),
    "a length of 2**63": (INFER, lambda: b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + b"\0" * 100),
    "a length of 2**63 in a large message": (INFER, lambda: b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + b"\0" * MEGABYTE),
    "a number without an end": (INFER, lambda: b"\x08" + b"\xff" * 20),
    "unknown groups in groups": (INFER, lambda: nested(100_000)),
    "a group without an end": (INFER, lambda: double() + b"\x7b" * 50),
    "not UTF-8": (INFER, lambda: b"\x0a\x02\xff\xfe"),
    "half a million inputs": (INFER, lambda: b"\x0a\x06double" + b"\x2a\x00" * (MEGABYTE // 2)),
    "half a million outputs": (INFER, lambda: double() + b"\x32\x00" * (MEGABYTE // 2)),
    "half a million parameters": (INFER, lambda: double() + b"\x22\x00" * (MEGABYTE // 2)),
    "half a million unknown fields": (INFER, lambda: double() + b"\x78\x00" * (MEGABYTE // 2)),
    "half a million texts": (INFER, lambda: typed(bytes_contents=[b""] * (MEGABYTE // 2))),
    "a million numbers": (INFER, lambda: typed(int64_contents=[0] * MEGABYTE)),
    "more raw contents than inputs": (INFER, lambda: raws(3)),
    "no raw content": (INFER, lambda: raws(0)),
    "100,000 raw contents": (INFER, lambda: raws(100_000)),
    "negative size": (INFER, lambda: tensor([-1, 2])),
    "no size": (INFER, lambda: tensor([])),
    "no rows": (INFER, lambda: tensor([0, 2], b"")),
    "no rows in a long axis": (INFER, lambda: tensor([0, 2**62], b"")),
    "sizes that wrap": (INFER, lambda: tensor([2**32, 2**32])),
    "a huge size": (INFER, lambda: tensor([2**63 - 1])),
    "10,000 axes": (INFER, lambda: tensor([1] * 10_000)),
    "too few bytes": (INFER, lambda: tensor([1, 2], b"\0" * 7)),
    "too many bytes": (INFER, lambda: tensor([1, 2], b"\0" * 9)),
    "a text longer than its bytes": (INFER, lambda: tensor([1], b"\xff\xff\xff\xff", "BYTES", "text", "text")),
    "half a length": (INFER, lambda: tensor([1], b"\x01\0", "BYTES", "text", "text")),
    "a truth of 2": (INFER, lambda: tensor([1, 2], b"\2\2", "BOOL", model="echoBOOL")),
    "unknown datatype": (INFER, lambda: tensor([1, 2], datatype="FP8")),
    "a datatype of a megabyte": (INFER, lambda: tensor([1, 2], datatype="F" * MEGABYTE)),
    "a name of a megabyte": (INFER, lambda: tensor([1, 2], name="x" * MEGABYTE)),
    "an odd name": (INFER, lambda: tensor([1, 2], name="\0\x1b[31m\r\n")),
    "tensorflow: cut off": (PREDICT, lambda: tensorflow(dtype=1, tensor_shape=dims(1, 2))[:-2]),
    "tensorflow: half a million sizes": (PREDICT, lambda: tensorflow(dtype=1, tensor_shape=dims(*[1] * 200_000))),
    "tensorflow: sizes that wrap": (PREDICT, lambda: tensorflow(dtype=1, tensor_shape=dims(2**32, 2**32), float_val=[1])),
    "tensorflow: negative size": (PREDICT, lambda: tensorflow(dtype=1, tensor_shape=dims(-1, 2), float_val=[1, 2])),
    "tensorflow: no rows in a long axis": (PREDICT, lambda: tensorflow(dtype=1, tensor_shape=dims(0, 2**62))),
    "tensorflow: no rank": (PREDICT, lambda: tensorflow(dtype=1, tensor_shape={"unknown_rank": True}, float_val=[1])),
    "tensorflow: unknown type": (PREDICT, lambda: tensorflow(dtype=8, tensor_shape=dims(1, 2))),
    "tensorflow: type number out of all bounds": (PREDICT, lambda: tensorflow(dtype=-5, tensor_shape=dims(1, 2))),
    "tensorflow: one value for many": (PREDICT, lambda: tensorflow(dtype=1, tensor_shape=dims(2**40, 2), float_val=[1])),
    "tensorflow: too many bytes": (PREDICT, lambda: tensorflow(dtype=1, tensor_shape=dims(1, 2), tensor_content=b"\0" * 9)),
}  # fmt: skip


@pytest.fixture(scope="module")
def warmed(server: Served) -> Served:
    """Warmed by a few messages that are as large as any here, so that growth means growth."""
    with grpc.insecure_channel(server.grpc) as channel:
        for name in ("half a million texts", "a million numbers", "half a million inputs"):
            ask(channel, INFER, MESSAGES[name][1]())
    return server


@pytest.mark.parametrize("name", MESSAGES)
def test_a_hostile_message_is_refused_and_changes_nothing(name: str, warmed: Served, channel: Channel) -> None:
    normal = ask(channel, INFER, double())
    before = warmed.resident_bytes
    method, make = MESSAGES[name]
    body = make()
    start = time.monotonic()
    answer = refused(channel, method, body)
    assert time.monotonic() - start < 2
    assert answer.status is BAD or name == "JSON", answer
    assert answer.code
    assert len(answer.sentence) <= 600
    assert not any(part in answer.sentence for part in INTERNAL)
    assert warmed.process.poll() is None
    assert ask(channel, INFER, double()) == normal
    assert warmed.resident_bytes - before < GROWTH_BYTES


def test_a_compressed_bomb_is_not_unpacked(warmed: Served, channel: Channel) -> None:
    before = warmed.resident_bytes
    answer = refused(channel, INFER, b"\0" * 200_000_000, compression=grpc.Compression.Gzip)
    assert answer.status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert warmed.resident_bytes - before < GROWTH_BYTES


def test_large_metadata_is_refused(channel: Channel) -> None:
    answer = refused(channel, INFER, double(), metadata=[("a", "v" * 200_000)])
    assert answer.status in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    assert isinstance(ask(channel, INFER, double()), bytes)


def test_what_is_not_http2_is_hung_up_on(server: Served, channel: Channel) -> None:
    import socket

    host, _, port = server.grpc.rpartition(":")
    for noise in (b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", bytes(range(256)) * 100):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(noise)
    assert isinstance(ask(channel, INFER, double()), bytes)


def test_unknown_model_names_add_no_metric_series(server: Served, channel: Channel) -> None:
    before = server.get("/metrics").body.count(b"\n")
    for index in range(200):
        refused(channel, INFER, tensor([1, 2], model=f"none{index}"))
    assert server.get("/metrics").body.count(b"\n") - before < 50


def test_what_a_client_sends_cannot_forge_a_line_of_the_log(server: Served, channel: Channel) -> None:
    rows = np.array([[-666, 0]], np.float32).tobytes()
    refused(channel, INFER, tensor([1, 2], rows), metadata=[("x-request-id", "a [31mforged")])
    refused(channel, INFER, tensor([1, 2], model="z\nforged\x1b[31m"))
    assert "\x1b" not in server.log.read_text()
    assert "\nforged" not in server.log.read_text()


def test_a_stream_answers_hostile_messages_one_by_one(channel: Channel) -> None:
    sent = [MESSAGES[name][1]() for name in ("noise", "sizes that wrap", "a million numbers")]
    answers = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([*sent, double()]), timeout=10)
    told = [messages.ModelStreamInferResponse.FromString(answer) for answer in answers]
    assert [answer.infer_response.parameters["foretell_code"].string_param for answer in told[:3]] == [
        "invalid_body",
        "wrong_shape",
        "invalid_body",
    ]
    assert not told[3].error_message
