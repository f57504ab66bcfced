"""The table of statuses on every protocol at once: of one situation the kind is one, and the status each protocol's own."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import pytest

from foretell.codes import CODES
from foretell.errors import Kind
from foretell.modes.grpc.status import STATUS as GRPC
from foretell.modes.grpc.stubs import tensorflow_serving_pb2 as tfs
from foretell.modes.grpc.tensorproto import write_tensor
from foretell.modes.http.status import STATUS as HTTP
from foretell.tensors import Array
from tests.modes.grpc.asking import INFER, PREDICT, Refused, ask, infer_message
from tests.serving import MODELS, Served, post, serving

S = grpc.StatusCode
LIMIT = 100_000


@dataclass(frozen=True)
class Asked:
    """One question, before it is put in a protocol's words."""

    model: str = "double"
    version: str = ""
    label: str = ""
    name: str = "x"
    array: Array = field(default_factory=lambda: np.array([[1, 2]], np.float32))
    timeout_us: int = 0
    output: str = ""


@dataclass(frozen=True)
class Told:
    """A refusal: the protocol's status, and the stable code."""

    status: int | grpc.StatusCode
    code: str | None


def rest(served: Served, asked: Asked) -> Told:
    """The Open Inference Protocol over REST."""
    where = f"/versions/{asked.version}" if asked.version else f"/labels/{asked.label}" if asked.label else ""
    datatype = "BYTES" if asked.array.dtype == object else "FP32"
    data = [str(item) for item in asked.array.ravel()] if datatype == "BYTES" else asked.array.ravel().tolist()
    tensor = {"name": asked.name, "shape": asked.array.shape, "datatype": datatype, "data": data}
    body: dict[str, Any] = {"inputs": [tensor]}
    if asked.timeout_us:
        body["parameters"] = {"timeout": asked.timeout_us}
    if asked.output:
        body["outputs"] = [{"name": asked.output}]
    return over_http(served, post(f"/v2/models/{asked.model}{where}/infer", orjson.dumps(body)))


def tensorflow_rest(served: Served, asked: Asked) -> Told:
    """TensorFlow Serving over REST, in column form."""
    where = f"/versions/{asked.version}" if asked.version else f"/labels/{asked.label}" if asked.label else ""
    values = asked.array.astype(str).tolist() if asked.array.dtype == object else asked.array.tolist()
    return over_http(served, post(f"/v1/models/{asked.model}{where}:predict", orjson.dumps({"inputs": {asked.name: values}})))


def open_grpc(served: Served, asked: Asked) -> Told:
    """The Open Inference Protocol over gRPC."""
    message = infer_message(asked.model, asked.array, asked.name, model_version=asked.version)
    if asked.timeout_us:
        message.parameters["timeout"].int64_param = asked.timeout_us
    if asked.output:
        message.outputs.add(name=asked.output)
    return over_grpc(served, INFER, message.SerializeToString())


def tensorflow_grpc(served: Served, asked: Asked) -> Told:
    """TensorFlow Serving over gRPC."""
    message = tfs.PredictRequest(inputs={asked.name: write_tensor(asked.array)})
    message.model_spec.name = asked.model
    if asked.version:
        message.model_spec.version.value = int(asked.version)
    elif asked.label:
        message.model_spec.version_label = asked.label
    message.output_filter.extend([asked.output] if asked.output else [])
    return over_grpc(served, PREDICT, message.SerializeToString())


def over_http(served: Served, request: bytes) -> Told:
    reply = served.ask(request)
    return Told(reply.status, reply.code if reply.status >= 400 else None)


def over_grpc(served: Served, method: str, body: bytes, **options: Any) -> Told:
    with grpc.insecure_channel(served.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        answer = ask(channel, method, body, **options)
    return Told(answer.status, answer.code) if isinstance(answer, Refused) else Told(S.OK, None)


Protocol = Callable[[Served, Asked], Told]
PROTOCOLS: Mapping[str, Protocol] = {
    "REST": rest,
    "gRPC": open_grpc,
    "TensorFlow Serving REST": tensorflow_rest,
    "TensorFlow Serving gRPC": tensorflow_grpc,
}
SLOW = Asked("slow", name="seconds", array=np.array([5], np.float32))
TEXTS = np.array([[b"a", b"b"]], dtype=object)
TABLE: list[tuple[str, Kind, int, grpc.StatusCode, Asked]] = [
    ("wrong name", Kind.INVALID, 400, S.INVALID_ARGUMENT, Asked(name="z")),
    ("wrong datatype", Kind.INVALID, 400, S.INVALID_ARGUMENT, Asked(array=TEXTS)),
    ("wrong shape", Kind.INVALID, 400, S.INVALID_ARGUMENT, Asked(array=np.ones((1, 3), np.float32))),
    ("no rows", Kind.INVALID, 400, S.INVALID_ARGUMENT, Asked(array=np.ones((0, 2), np.float32))),
    ("unknown output", Kind.INVALID, 400, S.INVALID_ARGUMENT, Asked(output="z")),
    ("unknown model", Kind.MISSING, 404, S.NOT_FOUND, Asked("z")),
    ("unknown version", Kind.MISSING, 404, S.NOT_FOUND, Asked(version="9")),
    ("unknown label", Kind.MISSING, 404, S.NOT_FOUND, Asked(label="z")),
    ("large body", Kind.TOO_LARGE, 413, S.RESOURCE_EXHAUSTED, Asked(array=np.ones((LIMIT // 4, 2), np.float32))),
    ("deadline", Kind.LATE, 504, S.DEADLINE_EXCEEDED, SLOW),
    ("the model raised", Kind.BROKEN, 500, S.INTERNAL, Asked(array=np.array([[-666, 1]], np.float32))),
]
CANNOT_SAY = {("unknown output", "TensorFlow Serving REST"), ("unknown label", "gRPC")}
"""What a protocol has no words for."""


def no_rows(at: Served) -> Told:
    """The rows of a job that has none, once more."""
    job = at.ask(post(V1, "{}", "prefer: respond-async")).json()["id"]
    return over_http(at, post(f"/jobs/{job}/retry", b""))


def reused(at: Served) -> Told:
    """A key that another request was sent with before."""
    replies = [at.ask(post(V1, body, "prefer: respond-async", "idempotency-key: k")) for body in ("{}", '{"a":1}')]
    return Told(replies[1].status, replies[1].code)


LOAD = "/inference.GRPCInferenceService/RepositoryModelLoad"
V2, V1 = "/v2/models/double/infer", "/v1/models/double:predict"
OF_ITS_OWN: list[tuple[str, Kind, str, Callable[[Served], Told], int | grpc.StatusCode]] = [
    ("malformed", Kind.INVALID, "REST", lambda at: over_http(at, post(V2, "{")), 400),
    ("malformed", Kind.INVALID, "TensorFlow Serving REST", lambda at: over_http(at, post(V1, "{")), 400),
    ("malformed", Kind.INVALID, "gRPC", lambda at: over_grpc(at, INFER, b"\xff\xff"), S.INVALID_ARGUMENT),
    ("malformed", Kind.INVALID, "TensorFlow Serving gRPC", lambda at: over_grpc(at, PREDICT, b"\xff"), S.INVALID_ARGUMENT),
    ("no credentials", Kind.UNAUTHENTICATED, "REST", lambda at: over_http(at, post("/v2/repository/models/z/load", "")), 401),
    ("no credentials", Kind.UNAUTHENTICATED, "gRPC", lambda at: over_grpc(at, LOAD, b"\x12\x01z"), S.UNAUTHENTICATED),
    ("wrong verb", Kind.WRONG_VERB, "REST", lambda at: over_http(at, post(V2, "", verb="PUT")), 405),
    ("wrong verb", Kind.WRONG_VERB, "TensorFlow Serving REST", lambda at: over_http(at, post(V1, "", verb="PUT")), 405),
    ("wrong verb", Kind.WRONG_VERB, "gRPC", lambda at: over_grpc(at, INFER + "s", b""), S.UNIMPLEMENTED),
    ("content type", Kind.UNSUPPORTED, "REST", lambda at: over_http(at, post(V2, "a", kind="text/csv")), 415),
    ("content type", Kind.UNSUPPORTED, "TensorFlow Serving REST", lambda at: over_http(at, post(V1, "a", kind="a/b")), 415),
    ("headers", Kind.HEADERS_TOO_LARGE, "REST", lambda at: over_http(at, post(V2, "{}", "h: " + "v" * 70_000)), 431),
    ("wrong state", Kind.CONFLICT, "REST", no_rows, 409),
    ("another request", Kind.MISMATCHED, "REST", reused, 422),
    (
        "headers",
        Kind.HEADERS_TOO_LARGE,
        "gRPC",
        lambda at: over_grpc(at, INFER, b"", metadata=[("h", "v" * 70_000)]),
        S.RESOURCE_EXHAUSTED,
    ),
]


def rows() -> Iterator[Any]:
    """Every situation on every protocol that has words for it."""
    for situation, kind, http, over_rpc, asked in TABLE:
        for number, (name, protocol) in enumerate(PROTOCOLS.items()):
            if (situation, name) not in CANNOT_SAY:
                mine = replace(asked, model=f"late{number}") if kind is Kind.LATE else asked
                status = over_rpc if name.endswith("gRPC") else http
                yield pytest.param(kind, status, lambda at, p=protocol, a=mine: p(at, a), id=f"{situation} over {name}")
    for situation, kind, name, call, own in OF_ITS_OWN:
        yield pytest.param(kind, own, call, id=f"{situation} over {name}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with small limits, of which every one is met here."""
    folder: Path = tmp_path_factory.mktemp("table")
    (folder / "foretell.toml").write_text('[admin]\nkey = "hunter2"\n')
    limits = ("--http-max-request-bytes", str(LIMIT), "--timeouts-total-s", "1", "--engine-queue-rows", "4")
    models = {name: MODELS[name] for name in ("double", "slow")}
    models |= {f"late{number}": MODELS["slow"] for number in range(len(PROTOCOLS))}  # one that was late is asked no more
    keeping = ("--jobs-state-folder", str(folder / "state"))
    with serving(
        folder, "--grpc-port", "0", *limits, *keeping, "--config", str(folder / "foretell.toml"), models=models
    ) as served:
        yield served


@pytest.mark.parametrize(("kind", "status", "call"), list(rows()))
def test_a_situation_has_the_contracts_status_and_a_code_of_its_kind(
    server: Served, kind: Kind, status: int | grpc.StatusCode, call: Callable[[Served], Told]
) -> None:
    told = call(server)
    assert told.status == status
    assert status == (GRPC[kind] if isinstance(status, grpc.StatusCode) else HTTP[kind])
    if told.code is None:  # gRPC's own library refused it, before this server saw it
        assert kind in (Kind.TOO_LARGE, Kind.HEADERS_TOO_LARGE, Kind.WRONG_VERB)
        assert isinstance(status, grpc.StatusCode)
    else:
        assert CODES[told.code][0].kind is kind


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_full_queue_is_exhausted_or_429(server: Served, protocol: str) -> None:
    brief = Asked("slow", name="seconds", array=np.array([0.1], np.float32))
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: PROTOCOLS[protocol](server, brief), range(8)))
    busy = Told(S.RESOURCE_EXHAUSTED if protocol.endswith("gRPC") else 429, "queue_full")
    good = Told(S.OK if protocol.endswith("gRPC") else 200, None)
    assert set(told) == {busy, good}
