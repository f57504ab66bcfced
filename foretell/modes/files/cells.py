"""Arrow columns to numpy arrays, whole columns at a time; the rows that do not fit are named."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foretell.errors import Setup
from foretell.modes.files.columns import Binding
from foretell.modes.files.nested import even, fill, nested, stack_columns
from foretell.modes.files.rows import BadRow, Numbers, Rows
from foretell.modes.files.selection import Selection
from foretell.tensors import Array, Datatype, TensorSpec

EMPTY = ("", "na", "n/a", "nan", "null", "none", "#n/a")
"""What counts as an empty cell of a number in CSV, in small letters."""

Bad = dict[int, BadRow]


class Cells:
    """Decodes record batches for some bindings. ``text``: numbers come as text, to be parsed (CSV).

    ``kept`` are the columns to pass on, ``selection`` says which rows are wanted.
    """

    def __init__(self, bindings: Sequence[Binding], kept: Sequence[str], selection: Selection, *, text: bool) -> None:
        self.bindings = bindings
        self.kept = kept
        self.selection = selection
        self.text = text

    def decode(self, table: Any, numbers: Numbers) -> Rows:
        """The wanted rows of a pyarrow Table or RecordBatch; those that do not fit are in ``bad``."""
        bad: Bad = {}
        count = len(numbers)
        wanted = self.selection.mask(numbers, table.column)
        if wanted is not None:
            table, numbers = table.filter(pa.array(wanted)), numbers[wanted]
        arrays = {binding.spec.name: self._decode_input(binding, table, numbers, bad) for binding in self.bindings}
        kept = {name: self._keep(name, table, numbers, bad) for name in self.kept}
        return Rows(numbers, arrays, kept=kept, passed_over=count - len(numbers)).without(bad)

    def _keep(self, name: str, table: Any, numbers: Numbers, bad: Bad) -> Any:
        """A column to pass on. Texts that are not UTF-8, as CSV may hold them, are refused and left empty."""
        column = whole(table.column(name))
        if not (pa.types.is_string(column.type) or (self.text and pa.types.is_binary(column.type))):
            return column
        try:
            return column.cast(pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            texts = [_text(cell) for cell in column.cast(pa.binary()).to_pylist()]
        for place, text in enumerate(texts):
            if text is _NOT_TEXT:
                reason = f"column {name!r}, which is to be kept, is not text in UTF-8: save the table in UTF-8"
                bad.setdefault(place, BadRow(int(numbers[place]), "bad_row", reason))
        return pa.array([None if text is _NOT_TEXT else text for text in texts], pa.string())

    def _decode_input(self, binding: Binding, table: Any, numbers: Numbers, bad: Bad) -> Array:
        columns = [self._decode_column(name, binding.spec, table, numbers, bad) for name in binding.columns]
        if binding.side_by_side:
            return stack_columns(columns, binding.spec)
        return fill(columns[0], binding.spec)

    def _decode_column(self, name: str, spec: TensorSpec, table: Any, numbers: Numbers, bad: Bad) -> Array:
        column = whole(table.column(name))
        refuse = _Refusals(name, spec, numbers, bad)
        if self.text and spec.dtype is not Datatype.BYTES:
            column = _parse(column, spec.dtype, refuse)
        if is_list(column.type):
            return _lists(column, spec, refuse)
        return _flat(column, spec.dtype, refuse)


class _Refusals:
    """Notes the rows of one column that do not fit: the first reason of a row counts."""

    def __init__(self, column: str, spec: TensorSpec, numbers: Numbers, bad: Bad) -> None:
        self.column = column
        self.spec = spec
        self.numbers = numbers
        self.bad = bad

    def empty(self, places: Sequence[int]) -> None:
        for place in places:
            self.note(place, f"column {self.column!r} is empty, input {self.spec} needs a value")

    def note(self, place: int, reason: str) -> None:
        self.bad.setdefault(place, BadRow(int(self.numbers[place]), "bad_row", reason))


_NOT_TEXT = object()


def _text(cell: bytes | None) -> Any:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return _NOT_TEXT


def whole(column: Any) -> Any:
    """A column in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def check_type(name: str, kind: Any, spec: TensorSpec) -> None:
    """That a typed column can fill an input at all. Raises Setup ``missing_column`` naming both types."""
    element = kind
    while is_list(element):
        element = element.value_type
    element = element.value_type if pa.types.is_dictionary(element) else element
    text = _is_text(element)
    number = any(
        test(element) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    )
    fits = text if spec.dtype is Datatype.BYTES else number
    if not fits and not pa.types.is_null(element):
        wanted = "text or bytes" if spec.dtype is Datatype.BYTES else "numbers"
        raise Setup("missing_column", f"column {name!r} is {kind}, but input {spec} takes {wanted}: convert the column")


def is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: Any) -> bool:
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
    )
    return any(test(kind) for test in tests)


def _flat(column: Any, dtype: Datatype, refuse: _Refusals | None) -> Array:
    """A column without lists. An empty cell is NaN where the model takes floats, and refused elsewhere."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type) or (pa.types.is_null(column.type) and dtype is not Datatype.BYTES):
        column = column.cast(pa.float64())
    if dtype is Datatype.BYTES:
        return _objects(column, refuse)
    if dtype.is_float:
        return _floats(column)
    if column.null_count:
        if refuse is not None:
            refuse.empty(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist())
        column = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
    values: Array = column.to_numpy(zero_copy_only=False)
    return values.astype(np.int64) if values.dtype == np.bool_ and dtype is not Datatype.BOOL else values


def _floats(column: Any) -> Array:
    """Floats as they are; whole numbers as FP64, so that they may be rounded like the floats of any other file."""
    if not pa.types.is_floating(column.type):
        column = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
        column = column.cast(pa.float64(), safe=False)
    values: Array = column.to_numpy(zero_copy_only=False)
    return values


def _objects(column: Any, refuse: _Refusals | None) -> Array:
    values: Array = column.cast(pa.large_binary()).to_numpy(zero_copy_only=False)
    if column.null_count and refuse is not None:
        refuse.empty(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist())
    return values


def _lists(column: Any, spec: TensorSpec, refuse: _Refusals) -> Array:
    """Rows of equal length as one array; else an object array of arrays, one a row."""
    missing = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
    refuse.empty(missing.tolist())
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    if len(missing) == 0 and len(lengths) and (lengths == lengths[0]).all() and not is_list(column.type.value_type):
        values = column.flatten()
        if values.null_count == 0 or spec.dtype.is_float:
            return _flat(values, spec.dtype, None).reshape(len(lengths), -1)
    return _ragged(column, spec, refuse)


def _ragged(column: Any, spec: TensorSpec, refuse: _Refusals) -> Array:
    rows = np.empty(len(column), dtype=np.object_)
    blank = np.empty(0, dtype=spec.dtype.numpy)
    for place, value in enumerate(column):
        try:
            rows[place] = nested(value.as_py(), spec.dtype) if value.is_valid else blank
        except (TypeError, ValueError, OverflowError):
            rows[place] = blank
            refuse.note(
                place, f"column {refuse.column!r} holds a list with empty or uneven elements, input {spec} needs a full one"
            )
    return even(rows)


def _parse(column: Any, dtype: Datatype, refuse: _Refusals) -> Any:
    """Text to numbers or booleans: at once if all cells are plain, else with blanks trimmed, else cell by cell."""
    kind = (
        pa.bool_()
        if dtype is Datatype.BOOL
        else pa.float64()
        if dtype.is_float
        else pa.uint64()
        if dtype is Datatype.UINT64
        else pa.int64()
    )
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        pass
    try:
        trimmed = pc.utf8_trim_whitespace(column)
        blank = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(EMPTY))
        return pc.if_else(blank, pa.scalar(None, pa.string()), trimmed).cast(kind)
    except pa.ArrowInvalid:
        return _parse_each(column, kind, dtype, refuse)


def _parse_each(column: Any, kind: Any, dtype: Datatype, refuse: _Refusals) -> Any:
    read: Callable[[str], Any] = _boolean if dtype is Datatype.BOOL else float if dtype.is_float else _whole
    info = None if dtype is Datatype.BOOL or dtype.is_float else np.iinfo(np.uint64 if dtype is Datatype.UINT64 else np.int64)
    values: list[Any] = []
    for place, cell in enumerate(column.cast(pa.binary()).to_pylist()):
        text = (cell or b"").decode("utf-8", "replace").strip()
        value = None
        if text.lower() not in EMPTY:
            try:
                value = read(text)
                if "_" in text or (info is not None and not info.min <= value <= info.max):
                    raise ValueError(text)
            except (ValueError, OverflowError):
                value = None
                refuse.note(place, f"column {refuse.column!r} holds {text[:40]!r}, input {refuse.spec} needs {_WANTED[kind]}")
        values.append(value)
    return pa.array(values, kind)


_WANTED = {
    pa.bool_(): "true or false",
    pa.float64(): "a number",
    pa.int64(): "a whole number",
    pa.uint64(): "a whole number from 0",
}


def _whole(text: str) -> int:
    """A whole number, also as it looks after a detour over floats: ``3.0``."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if value != int(value):
            raise ValueError(text) from None
        return int(value)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(text)
    return text.lower() in ("true", "1")
