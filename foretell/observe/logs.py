"""The log: one line a record on standard error, in which nothing that a client sent can start a line or steer a terminal."""

import logging
import math
import re
import sys
import time
from typing import TextIO

import orjson

from foretell.outlet import Outlet, outlet
from foretell.settings import LogSettings

_MOST_CHARS = {"message": 2000, "field": 200}
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""C0, DEL, C1 (thus CR, LF, ANSI), line separators, bidirectional and invisible marks, lone surrogates, tags."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PLAIN_FIELD = re.compile(r"[\w.:/+@-]+")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def escape(text: str, most_chars: int | None = None) -> str:
    """``text`` on one line, control and invisible characters written as ``\\n``, ``\\x1b``, ``\\u202e``; cut if too long."""
    if most_chars is not None and len(text) > most_chars:
        text = f"{text[:most_chars]}... ({len(text)} characters)"
    return _STEERING.sub(_write_out, text)


def configure(settings: LogSettings, stream: TextIO | None = None, *, worker: int | None = None) -> None:
    """Send everything logged under ``foretell`` to ``stream`` (standard error, which is never waited for), from a level up.

    ``worker`` is the number of the worker process that this is, and stands in every line.
    """
    logger = logging.getLogger("foretell")
    for old in list(logger.handlers):
        logger.removeHandler(old)
        if isinstance(old, logging.StreamHandler) and isinstance(old.stream, Outlet):
            old.stream.close()
    handler = logging.StreamHandler(stream or outlet(sys.stderr))
    handler.setFormatter({"text": LineFormatter, "json": JsonFormatter}[settings.format](worker))
    logger.addHandler(handler)
    logger.setLevel(settings.level.upper())
    logger.propagate = False


class LineFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.123Z warning [worker=1 model=digits request_id=7] message``.

    Fields are the worker and the record's ``extra``, but for those that are None; they stand before the message, so that a
    message cannot pretend to be one. A traceback follows on lines of its own that start with ``    | ``.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self.worker = worker

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(_show_field(name, value) for name, value in _fields(record, self.worker).items())
        message = escape(record.getMessage(), _MOST_CHARS["message"])
        line = f"{_show_time(record.created)} {record.levelname.lower()} " + (f"[{fields}] " if fields else "") + message
        return "\n".join([line, *("    | " + each for each in _trace_lines(self, record))])


class JsonFormatter(logging.Formatter):
    """One JSON object: ``time``, ``level``, ``logger``, ``message``, the fields, and ``traceback`` as a list of lines.

    What a client could have sent is escaped as in lines for people, so that it is harmless also where a value is printed.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self.worker = worker

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _show_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": escape(record.getMessage(), _MOST_CHARS["message"]),
        }
        for name, value in _fields(record, self.worker).items():
            entry.setdefault(name, _plain(value))
        lines = _trace_lines(self, record)
        return orjson.dumps(entry | {"traceback": lines} if lines else entry).decode()


def _fields(record: logging.LogRecord, worker: int | None) -> dict[str, object]:
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}
    return extra if worker is None else {"worker": worker, **extra}


def _plain(value: object) -> bool | int | float | str:
    """A field's value as JSON has it: what is no number is its text, escaped."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return escape(str(value), _MOST_CHARS["field"])


def _trace_lines(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    if not record.exc_info or record.exc_info[0] is None:
        return []
    return [escape(line, _MOST_CHARS["message"]) for line in formatter.formatException(record.exc_info).splitlines()]


def _show_time(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds * 1000) % 1000:03d}Z"


def _show_field(name: str, value: object) -> str:
    text = escape(str(value), _MOST_CHARS["field"])
    if not _PLAIN_FIELD.fullmatch(text):
        text = '"' + text.replace('"', '\\"') + '"'
    return f"{name}={text}"


def _write_out(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
