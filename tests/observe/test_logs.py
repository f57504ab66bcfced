"""The log: one line a record, and nothing in it that a client could use to forge a line or steer a terminal."""

import io
import logging
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.observe.logs import LineFormatter, configure, escape
from foretell.settings import LogSettings

LOG = logging.getLogger("foretell")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged while a test runs; the logger is as before afterwards."""
    before = (LOG.handlers[:], LOG.level, LOG.propagate)
    written = io.StringIO()
    configure(LogSettings(level="info"), written)
    yield written
    LOG.handlers[:], LOG.level, LOG.propagate = before


def test_a_record_is_one_line_with_time_level_fields_and_message(stream: io.StringIO) -> None:
    LOG.warning("queue of %s is full", "digits", extra={"model": "digits", "request_id": "a 7"})
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


def test_a_traceback_is_lines_that_cannot_be_taken_for_records(stream: io.StringIO) -> None:
    try:
        raise ValueError("first\n2026-01-01T00:00:00.000Z info forged\x1b[2J")
    except ValueError:
        LOG.exception("failed", extra={"error_id": "e1"})
    first, *others = stream.getvalue().splitlines()
    assert "error [error_id=e1] failed" in first
    assert all(line.startswith("    | ") for line in others)
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "written"),
    [("a\r\nb", r"a\r\nb"), ("\x1b[31m", r"\x1b[31m"), ("\x9b", r"\x9b"), ("\u202e", r"\u202e"), ("é ü 数", "é ü 数")],
)
def test_steering_characters_are_written_out_and_letters_are_kept(text: str, written: str) -> None:
    assert escape(text) == written


def test_long_texts_are_cut_and_say_how_long_they_were() -> None:
    assert escape("x" * 10**6, 10) == "xxxxxxxxxx... (1000000 characters)"


@given(st.text(), st.text())
def test_no_client_text_leaves_its_line_or_its_field(message: str, field: str) -> None:
    record = logging.makeLogRecord({"msg": "%s", "args": (message,), "levelname": "INFO", "model": field})
    line = LineFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert not {"Cc", "Zl", "Zp", "Cs"} & {unicodedata.category(character) for character in line}
    assert " info [model=" in line
