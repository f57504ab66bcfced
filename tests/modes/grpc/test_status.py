"""The table of statuses: complete, and every row of it the answer to a real call."""

import re
import threading
from typing import Any

import grpc
import numpy as np
import pytest

from foretell.codes import CODES
from foretell.errors import Busy, Kind, Setup
from foretell.modes.grpc.status import LONGEST_SENTENCE, STATUS, refusal, unexpected
from foretell.modes.grpc.stubs import inference_pb2 as messages
from tests.modes.grpc.asking import INFER, Channel, double, infer_message, refused, sleep
from tests.serving import Served, eventually

S = grpc.StatusCode
GAUGES = ("queue_rows", "in_flight_requests")
SERVICE = "/inference.GRPCInferenceService/"
FLOATS = np.array([[1, 2]], np.float32)
TEXTS = infer_message("double", FLOATS.astype(object)).SerializeToString()
LOAD = messages.RepositoryModelLoadRequest(model_name="double").SerializeToString()
ROWS: list[tuple[str, str, bytes, grpc.StatusCode, str | None]] = [
    ("malformed message", INFER, b"\xff\xff", S.INVALID_ARGUMENT, "invalid_body"),
    ("wrong name", INFER, infer_message("double", FLOATS, "z").SerializeToString(), S.INVALID_ARGUMENT, "unknown_input"),
    ("no input", INFER, b"\x0a\x06double", S.INVALID_ARGUMENT, "missing_input"),
    ("wrong datatype", INFER, TEXTS, S.INVALID_ARGUMENT, "wrong_dtype"),
    ("wrong shape", INFER, infer_message("double", FLOATS[:, :1]).SerializeToString(), S.INVALID_ARGUMENT, "wrong_shape"),
    ("unknown output", INFER, double(outputs=[{"name": "z"}]), S.INVALID_ARGUMENT, "unknown_output"),
    ("wrong parameter", INFER, double(parameters={"timeout": {"int64_param": -1}}), S.INVALID_ARGUMENT, "unknown_parameter"),
    ("no credentials", SERVICE + "RepositoryModelLoad", LOAD, S.UNAUTHENTICATED, "wrong_key"),
    ("unknown model", INFER, infer_message("z", FLOATS).SerializeToString(), S.NOT_FOUND, "unknown_model"),
    ("no model", INFER, b"", S.NOT_FOUND, "unknown_model"),
    ("unknown version", INFER, double(model_version="9"), S.NOT_FOUND, "unknown_version"),
    ("a version that is none", INFER, double(model_version="../1"), S.NOT_FOUND, "unknown_version"),
    ("unknown service", "/grpc.health.v1.Health/Check", b"\x0a\x01z", S.NOT_FOUND, "unknown_route"),
    ("unknown method", SERVICE + "Nothing", b"", S.UNIMPLEMENTED, None),
    ("large message", INFER, b"\0" * 1_000_001, S.RESOURCE_EXHAUSTED, None),
    ("deadline", INFER, sleep(0.2, parameters={"timeout": {"int64_param": 20_000}}), S.DEADLINE_EXCEEDED, "deadline_passed"),
    ("the model raised", INFER, double(-666), S.INTERNAL, "model_failed"),
]  # fmt: skip


def test_every_kind_has_a_status() -> None:
    assert set(STATUS) == set(Kind)
    assert S.OK not in STATUS.values()
    assert S.UNKNOWN not in STATUS.values()


@pytest.mark.parametrize(("method", "body", "status", "code"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_row_of_the_table_is_a_real_answer(
    channel: Channel, method: str, body: bytes, status: grpc.StatusCode, code: str | None
) -> None:
    answer = refused(channel, method, body)
    assert (answer.status, answer.code) == (status, code)
    assert answer.sentence
    assert code is None or code in CODES


def test_a_full_queue_is_exhausted_with_the_time_to_wait(channel: Channel) -> None:
    calls = [channel.unary_unary(INFER).future(sleep(0.3), timeout=10) for _ in range(6)]
    refusals: list[Any] = [call for call in calls if call.exception() is not None]
    assert 0 < len(refusals) < 6
    for call in refusals:
        assert call.code() is S.RESOURCE_EXHAUSTED
        assert {("foretell-code", "queue_full"), ("retry-after", "1")} <= set(call.trailing_metadata())


def test_the_clients_deadline_ends_the_work(server: Served, channel: Channel) -> None:
    before = server.count("slow", "deadline_passed") + server.count("slow", "cancelled")
    assert refused(channel, INFER, sleep(0.5), timeout_s=0.05).status is S.DEADLINE_EXCEEDED
    assert eventually(lambda: server.count("slow", "deadline_passed") + server.count("slow", "cancelled") > before)


def test_a_client_that_hangs_up_takes_its_work_back(server: Served, channel: Channel) -> None:
    def gauges() -> tuple[float, float]:
        """Rows of the slow model that wait, and requests that it has not answered."""
        text = server.get("/metrics").body.decode()
        found = [re.search(rf'^foretell_{name}{{model="slow",version="1"}} (\S+)', text, re.M) for name in GAUGES]
        waiting, in_flight = (float(match[1]) for match in found if match is not None)
        return waiting, in_flight

    assert eventually(lambda: gauges() == (0, 0))
    before = server.count("slow", "cancelled"), server.count("slow", "ok")
    busy = channel.unary_unary(INFER).future(sleep(0.5), timeout=10)
    assert eventually(lambda: gauges() == (0, 1))
    waiting = channel.unary_unary(INFER).future(sleep(0.5), timeout=10)
    assert eventually(lambda: gauges() == (1, 2))
    waiting.cancel()
    assert eventually(lambda: gauges() == (0, 1))
    busy.result()
    assert eventually(lambda: (server.count("slow", "cancelled"), server.count("slow", "ok")) == (before[0] + 1, before[1] + 1))


def test_what_failed_has_an_id_that_the_log_has_too(server: Served, channel: Channel) -> None:
    answer = refused(channel, INFER, double(-666), metadata=[("x-request-id", "find-me"), ("traceparent", "00-a-b-01")])
    error_id = str(answer.metadata["foretell-error-id"])
    assert error_id in answer.sentence
    assert "secret" not in answer.sentence
    assert (answer.metadata["x-request-id"], answer.metadata["traceparent"]) == ("find-me", "00-a-b-01")
    assert eventually(lambda: error_id in server.log.read_text())
    assert "find-me" in next(line for line in server.log.read_text().splitlines() if error_id in line)


def test_refusals_are_counted(server: Served, channel: Channel) -> None:
    before = server.count("double", "unknown_input")
    refused(channel, INFER, infer_message("double", FLOATS, "z").SerializeToString())
    assert eventually(lambda: server.count("double", "unknown_input") == before + 1)


def test_a_mistake_is_told_by_its_id_alone() -> None:
    told = refusal(unexpected(ZeroDivisionError("/etc/passwd")))
    assert told.status is S.INTERNAL
    assert "passwd" not in told.sentence


def test_a_refusal_of_the_operator_is_not_told_to_a_caller() -> None:
    assert "/home" not in refusal(Setup("missing_file", "/home/x/model.onnx is not there")).sentence


def test_a_long_sentence_is_cut_to_what_clients_take() -> None:
    assert len(refusal(Setup("missing_file", "x")).sentence) < LONGEST_SENTENCE
    assert len(refusal(Busy("queue_full", "ü" * 100_000)).sentence) == LONGEST_SENTENCE


def test_many_threads_of_one_client_get_their_own_answers(channel: Channel) -> None:
    wrong: list[int] = []

    def work(thread: int) -> None:
        call = channel.unary_unary(INFER)
        for n in range(20):
            x = thread * 100 + n
            answer = messages.ModelInferResponse.FromString(call(double(x, id=str(x)), timeout=10))
            y = np.frombuffer(answer.raw_output_contents[0], np.float32)[0]
            if (answer.id, y) != (str(x), 2 * x + 1):
                wrong.append(x)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
