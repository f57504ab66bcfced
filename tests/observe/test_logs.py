"""The log: one line a record, and nothing in it that a client could use to forge a line or steer a terminal."""

import io
import json
import logging
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.observe.logs import JsonFormatter, LineFormatter, configure, escape
from foretell.settings import LogSettings
from tests.observe.conftest import OpenLog

LOG = logging.getLogger("foretell")


@pytest.fixture
def stream(open_log: OpenLog) -> io.StringIO:
    return open_log(level="info")


def test_a_record_is_one_line_with_time_level_fields_and_message(stream: io.StringIO) -> None:
    LOG.warning("queue of %s is full", "digits", extra={"model": "digits", "request_id": "a 7", "trace_id": None})
    time, rest = stream.getvalue().split(" ", 1)
    assert time.endswith("Z")
    assert rest == 'warning [model=digits request_id="a 7"] queue of digits is full\n'


def test_what_is_below_the_level_is_not_logged(stream: io.StringIO) -> None:
    LOG.debug("quiet")
    assert stream.getvalue() == ""


def test_configuring_twice_logs_once(stream: io.StringIO) -> None:
    configure(LogSettings(), stream)
    LOG.info("once")
    assert stream.getvalue().count("once") == 1


def test_every_line_of_a_worker_names_it(open_log: OpenLog) -> None:
    stream = open_log(worker=3)
    LOG.info("hello")
    LOG.info("hello", extra={"model": "m"})
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "info [worker=3] hello",
        "info [worker=3 model=m] hello",
    ]


def test_a_traceback_is_lines_that_cannot_be_taken_for_records(stream: io.StringIO) -> None:
    try:
        raise ValueError("first\n2026-01-01T00:00:00.000Z info forged\x1b[2J")
    except ValueError:
        LOG.exception("failed", extra={"error_id": "e1"})
    first, *others = stream.getvalue().splitlines()
    assert "error [error_id=e1] failed" in first
    assert all(line.startswith("    | ") for line in others)
    assert "\x1b" not in stream.getvalue()


def test_a_json_record_is_one_object_with_its_fields(open_log: OpenLog) -> None:
    stream = open_log(worker=1, format="json")
    LOG.warning("full of %d", 7, extra={"model": "digits", "rows": 3, "queue_ms": 0.25, "cached": True, "trace_id": None})
    entry = json.loads(stream.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {
        "level": "warning",
        "logger": "foretell",
        "message": "full of 7",
        "worker": 1,
        "model": "digits",
        "rows": 3,
        "queue_ms": 0.25,
        "cached": True,
    }


def test_a_json_record_holds_its_traceback_in_the_same_line(open_log: OpenLog) -> None:
    stream = open_log(format="json")
    try:
        raise ValueError("first\nsecond\x1b[2J")
    except ValueError:
        LOG.exception("failed")
    [line] = stream.getvalue().splitlines()
    traceback = json.loads(line)["traceback"]
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-2:] == ["ValueError: first", r"second\x1b[2J"]


@pytest.mark.parametrize(
    ("text", "written"),
    [("a\r\nb", r"a\r\nb"), ("\x1b[31m", r"\x1b[31m"), ("\x9b", r"\x9b"), ("\u202e", r"\u202e"), ("é ü 数", "é ü 数")],
)
def test_steering_characters_are_written_out_and_letters_are_kept(text: str, written: str) -> None:
    assert escape(text) == written


def test_long_texts_are_cut_and_say_how_long_they_were() -> None:
    assert escape("x" * 10**6, 10) == "xxxxxxxxxx... (1000000 characters)"


def record_of(message: str, field: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": "%s", "args": (message,), "levelname": "INFO", "model": field})


def is_harmless(text: str) -> bool:
    return not {"Cc", "Zl", "Zp", "Cs"} & {unicodedata.category(character) for character in text}


@given(st.text(), st.text())
def test_no_client_text_leaves_its_line_or_its_field(message: str, field: str) -> None:
    line = LineFormatter().format(record_of(message, field))
    assert len(line.splitlines()) == 1
    assert is_harmless(line)
    assert " info [model=" in line


@given(st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none(), st.lists(st.text())))
def test_no_client_text_leaves_its_place_in_a_json_line(message: str, field: object) -> None:
    line = JsonFormatter().format(record_of(message, field))
    assert len(line.splitlines()) == 1
    assert is_harmless(line)
    entry = json.loads(line, parse_constant=pytest.fail)
    assert is_harmless(entry["message"])
    assert is_harmless(str(entry.get("model", "")))
    assert set(entry) <= {"time", "level", "logger", "message", "model"}
