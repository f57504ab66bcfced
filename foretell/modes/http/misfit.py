"""Why rows do not fit a model, in the words of whoever wrote them: the row, the column, what it must be, and what came."""

import csv
import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from foretell.errors import Invalid
from foretell.tensors import Datatype, TensorSpec, show_shape

ONE_LINE = "the body has one line: `curl -d` drops newlines, use --data-binary"
NO_ROWS = "the body has no rows: send at least one row"
EMPTY = "the body is empty: send at least one row"
QUOTE_CURE = 'close it, remove it, or write "" for a quote that is text'
MOST_NAMES = 12
MOST_CHARS = 40
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_INDEX = re.compile(r"\[(\d+)\]")


def explain_quote(error: csv.Error, row: int, line: int) -> Invalid:
    """What is wrong with the quotes of a row of CSV that begins in ``line``; row -1 is the header."""
    where = "the header" if row < 0 else f"row {row}, in line {line},"
    if "limit" in str(error):
        text = f"{where} has a cell of more than {csv.field_size_limit():,} characters: close it, if a quote opens it"
        return Invalid("invalid_body", text)
    text = f"{where} has a quote that is not closed in front of a comma or a line end: {QUOTE_CURE}"
    return Invalid("bad_row", text, **({} if row < 0 else {"row": row}))


def explain_rows(error: msgspec.ValidationError, body: bytes, specs: Sequence[TensorSpec]) -> Invalid:
    """What is wrong with a JSON body that is a row, or a list of rows, for these inputs."""
    reason, path = _split(error)
    value, row = _decode(body), None
    start = _INDEX.match(path) if body.lstrip()[:1] == b"[" else None
    if start is not None:
        row, path = int(start[1]), path[start.end() :]
        value = _item(value, row)
    place = {} if row is None else {"row": row}
    where = "" if row is None else f"row {row}: "
    missing = _MISSING.match(reason)
    if missing is not None and not path:
        known = {spec.name for spec in specs}
        others = [key for key in value if key not in known] if isinstance(value, dict) else []
        return Invalid("bad_row", f"{where}{missing_column(missing[1], others)}", **place, input=missing[1])
    spec = _spec_at(path, specs)
    if spec is None:
        wanted = "the body must be a row, which is an object, or a list of rows" if row is None else "a row must be an object"
        return Invalid("bad_row", f"{where}{wanted}: its keys are {_names(specs)}", **place)
    path = path.removeprefix(f".{spec.name}")
    if isinstance(value, dict):
        value = value.get(spec.name, _UNKNOWN)
    return Invalid("bad_row", where + _sentence(spec, reason, path, value), **place, input=spec.name)


def explain_value(error: msgspec.ValidationError, raw: bytes, spec: TensorSpec) -> Invalid:
    """What is wrong with the JSON value, or the list of values, of one input."""
    reason, path = _split(error)
    return Invalid("bad_row", "input " + _sentence(spec, reason, path, _decode(raw)), input=spec.name)


def missing_column(name: str, others: Iterable[str]) -> str:
    """That there is no such column, and which of ``others``, those that no input needs, it may be."""
    near = difflib.get_close_matches(name.lower(), lowered := {other.lower(): other for other in others}, n=1, cutoff=0.6)
    return f"there is no column {name!r}" + (f": is it the one called {_cut(repr(lowered[near[0]]))}?" if near else "")


class _Unknown:
    """Stands for a value that cannot be read."""


_UNKNOWN = _Unknown()


def _split(error: msgspec.ValidationError) -> tuple[str, str]:
    """The decoder's reason, and the path below the whole: ``[0].age`` or nothing."""
    reason, _, path = str(error).partition(" - at `$")
    return reason, path.removesuffix("`")


def _decode(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # a later part is no JSON
        return _UNKNOWN


def _item(value: Any, index: int) -> Any:
    return value[index] if isinstance(value, list) and index < len(value) else _UNKNOWN


def _spec_at(path: str, specs: Sequence[TensorSpec]) -> TensorSpec | None:
    """The input that a path below a row leads to; with one input a row may be its bare value."""
    if len(specs) == 1 and not path.startswith("."):
        return specs[0]
    found = [spec for spec in specs if path.startswith(f".{spec.name}") and path[len(spec.name) + 1 :][:1] in ("", "[", ".")]
    return max(found, key=lambda spec: len(spec.name), default=None)


def _sentence(spec: TensorSpec, reason: str, path: str, value: Any) -> str:
    for index in _INDEX.findall(path):
        value = _item(value, int(index))
    wanted = _words(spec.dtype)
    if reason.startswith("Expected `array`"):
        wanted = f"a list: the model takes {spec.dtype} {show_shape(spec.shape)} a row"
    got = "" if value is _UNKNOWN else f", got {_show(value)}"
    return f"{spec.name}{path} must be {wanted}{got}"


def _words(dtype: Datatype) -> str:
    if dtype is Datatype.BYTES:
        return "text"
    if dtype is Datatype.BOOL:
        return "true or false"
    return "a number" if dtype.is_float else "a whole number"


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return _cut(repr(value) if isinstance(value, str) else json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}..."


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(spec.name for spec in specs[:MOST_NAMES]) + (", ..." if len(specs) > MOST_NAMES else "")
