"""The request log: every passage is one line that tells what it was and how it went."""

import json

from foretell.errors import Busy, ForetellError
from foretell.observe.requests import RequestLog
from foretell.passage import Passage
from tests.observe.conftest import OpenLog


def passage_of(error: ForetellError | None = None) -> Passage:
    marks = [(b"x-request-id", b"r-1"), (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    return Passage("m", "1", "http", 10.0, None, 3, 4, 10.001, 10.003, 10.007, 10.0075, error, marks=marks)


def test_a_line_tells_what_was_asked_and_how_long_each_phase_took(open_log: OpenLog) -> None:
    stream = open_log(format="json")
    RequestLog()(passage_of())
    entry = json.loads(stream.getvalue())
    del entry["time"]
    assert entry == {
        "level": "info",
        "logger": "foretell.requests",
        "message": "request",
        "model": "m",
        "version": "1",
        "request_id": "r-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "mode": "http",
        "outcome": "ok",
        "rows": 3,
        "batch_rows": 4,
        "input_ms": 1.0,
        "queue_ms": 2.0,
        "compute_ms": 4.0,
        "output_ms": 0.5,
        "total_ms": 7.5,
    }


def test_a_line_tells_the_code_of_a_refusal(open_log: OpenLog) -> None:
    stream = open_log()
    RequestLog()(passage_of(Busy("queue_full", "the model's queue is full")))
    assert " outcome=queue_full " in stream.getvalue()


def test_above_level_info_nothing_is_logged(open_log: OpenLog) -> None:
    stream = open_log(level="warning")
    RequestLog()(passage_of())
    assert stream.getvalue() == ""
