"""``foretell ask``: one question to a server from a shell, its answer for people or for programs."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from foretell.client import Client
from foretell.errors import ForetellError
from foretell.observe.logs import escape

Prediction = Mapping[str, Any]

MOST_ROWS_SHOWN = 100
MOST_VALUES_SHOWN = 8
JSON, NDJSON = "application/json", "application/x-ndjson"
SUFFIXES = {
    ".json": JSON,
    ".ndjson": NDJSON,
    ".jsonl": NDJSON,
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
FIRST_BYTES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


@dataclass(frozen=True)
class Question:
    """What is sent: ``body`` is the whole of the file ``name``. ``media_type`` None is seen from both."""

    model: str
    body: bytes
    name: str
    media_type: str | None = None
    version: str | None = None


def ask_server(url: str, question: Question, key: str | None, timeout_s: float) -> list[dict[str, Any]]:
    """The predictions for one question. Raises ForetellError, with nothing in its sentence that could steer a terminal."""
    media_type = question.media_type or media_type_of(question.name, question.body)
    try:
        with Client(url, key=key, timeout_s=timeout_s) as client:
            return client.predict(question.model, question.body, version=question.version, content_type=media_type)
    except ForetellError as error:
        error_id = error.details.get("error_id")
        if error.code == "unsupported_content_type" and question.media_type is None:
            error.message += f" (it was taken for {media_type}: say what it is with --content-type)"
        error.message = escape(error.message if error_id is None else f"{error.message} (error id {error_id})", 2000)
        raise


def media_type_of(name: str, body: bytes) -> str:
    """The content type of a file by its suffix, else by what is in it."""
    if (known := SUFFIXES.get(PurePath(name).suffix.lower())) is not None:
        return known
    for start, media_type in FIRST_BYTES:
        if body.startswith(start):
            return media_type
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    if body.lstrip()[:1] in (b"{", b"["):
        return JSON if _is_json(body) or not all(_is_json(line) for line in body.splitlines() if line.strip()) else NDJSON
    try:
        body.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"


def show(predictions: Sequence[Prediction], *, as_json: bool) -> None:
    """Print predictions: one JSON document, or a table with a line for each row."""
    if as_json:
        sys.stdout.write(orjson.dumps(predictions, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    console = Console(highlight=False)
    names = list(dict.fromkeys(name for prediction in predictions for name in prediction))
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for title in ("row", *names):
        table.add_column(Text(escape(title)), overflow="fold")
    for row, prediction in enumerate(predictions[:MOST_ROWS_SHOWN]):
        table.add_row(str(row), *(Text(escape(_shown(prediction.get(name)), 400)) for name in names))
    console.print(table)
    if len(predictions) > MOST_ROWS_SHOWN:
        console.print(f"  ... and {len(predictions) - MOST_ROWS_SHOWN:,} more: --json prints all", style="dim")


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _shown(value: object) -> str:
    """``0.993``, ``7, 9, 3``, ``0, 0, 0, 0, 0, 0, 0, 0, ... (64 values)``."""
    if isinstance(value, list):
        shown = ", ".join(f"[{_shown(item)}]" if isinstance(item, list) else _shown(item) for item in value[:MOST_VALUES_SHOWN])
        return shown if len(value) <= MOST_VALUES_SHOWN else f"{shown}, ... ({len(value)} values)"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else orjson.dumps(value).decode()
