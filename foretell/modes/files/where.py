"""``--where``: comparisons of columns with numbers and texts, joined by ``and``, ``or``, ``not``; written as Python, never run.

    age > 30 and country in ("DE", "FR") and not (score < 0.5 or name == None)

An empty cell is neither smaller, larger nor equal to anything but ``None``; a row whose answer is open for that is not chosen.
"""

import ast
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from foretell.errors import Setup

Column = Callable[[str], Any]
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
MIRRORED = {"less": "greater", "less_equal": "greater_equal", "greater": "less", "greater_equal": "less_equal"}
MOST_CHARS = 4096
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
ASSIGNED = re.compile(r"(?<![<>=!:])=(?!=)")
EXAMPLE = "write it like --where \"age > 30 and country == 'DE'\""


def parse(text: str) -> ast.expr:
    """The expression, of which every part is known to be harmless. Raises Setup ``wrong_filter``."""
    if len(text) > MOST_CHARS:
        raise Setup("wrong_filter", f"--where has {len(text)} characters, at most {MOST_CHARS} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree, text)
    except (SyntaxError, TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        cure = "to compare, write == in place of =" if ASSIGNED.search(QUOTED.sub("", text)) else EXAMPLE
        raise Setup("wrong_filter", f"--where {text[:80]!r} cannot be understood: {cure}") from error
    return tree


def columns_of(tree: ast.expr) -> list[str]:
    """The columns that are looked at, each once."""
    return list(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))


def evaluate(tree: ast.expr, column: Column) -> Any:
    """A boolean Arrow array: whether each row passes. Raises Setup ``wrong_filter`` for a comparison that makes no sense."""
    if isinstance(tree, ast.BoolOp):
        join = pc.and_kleene if isinstance(tree.op, ast.And) else pc.or_kleene
        passed = evaluate(tree.values[0], column)
        for value in tree.values[1:]:
            passed = join(passed, evaluate(value, column))
        return passed
    if isinstance(tree, ast.UnaryOp):
        return pc.invert(evaluate(tree.operand, column))
    assert isinstance(tree, ast.Compare)
    sides = [tree.left, *tree.comparators]
    passed = None
    for left, operator, right in zip(sides, tree.ops, sides[1:], strict=False):
        found = _compare(left, operator, right, column)
        passed = found if passed is None else pc.and_kleene(passed, found)
    return passed


def _compare(left: ast.expr, operator: ast.cmpop, right: ast.expr, column: Column) -> Any:
    if not isinstance(left, ast.Name):  # 30 < age
        name = COMPARISONS[type(operator)]
        return _apply(MIRRORED.get(name, name), right, ast.literal_eval(left), column)
    value = ast.literal_eval(right)
    if isinstance(operator, ast.In | ast.NotIn):
        values = _as_kind(column(left.id), value[0], left.id)
        among = pa.array([_plain(each) for each in value], values.type)
        found = pc.if_else(pc.is_valid(values), pc.is_in(values, value_set=among), None)
        return found if isinstance(operator, ast.In) else pc.invert(found)
    if value is None:
        empty = pc.is_null(column(left.id))
        return pc.invert(empty) if isinstance(operator, ast.NotEq | ast.IsNot) else empty
    return _apply(COMPARISONS[type(operator)], left, value, column)


def _apply(name: str, left: ast.expr, value: object, column: Column) -> Any:
    assert isinstance(left, ast.Name)
    values = _as_kind(column(left.id), value, left.id)
    return pc.call_function(name, [values, pa.scalar(_plain(value), values.type)])


def _plain(value: Any) -> Any:
    """As Arrow takes it: a number as FP64, which the columns are compared as. Raises OverflowError, UnicodeEncodeError."""
    if isinstance(value, str):
        value.encode()
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_kind(column: Any, value: object, name: str) -> Any:
    """The column as what it is compared with: what cannot be read as a number, in a table of texts, is empty."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    kind = column.type
    text = pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind)
    try:
        if isinstance(value, str):
            return column.cast(pa.string())
        if isinstance(value, bool):
            return pc.equal(pc.utf8_lower(column.cast(pa.string())), "true") if text else column.cast(pa.bool_())
        return _numbers(column.cast(pa.string())) if text else column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        what = f"column {name!r} holds {kind}, which cannot be compared with {value!r}"
        raise Setup("wrong_filter", f"--where: {what}") from error


def _numbers(column: Any) -> Any:
    try:
        return pc.utf8_trim_whitespace(column).cast(pa.float64())
    except pa.ArrowInvalid:
        number = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
        plain = pc.match_substring_regex(column, number)
        return pc.utf8_trim_whitespace(pc.if_else(plain, column, None)).cast(pa.float64())


def _check(tree: ast.expr, text: str) -> None:
    """That the tree holds nothing but what ``evaluate`` knows. Raises ValueError."""
    if isinstance(tree, ast.BoolOp):
        for value in tree.values:
            _check(value, text)
    elif isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not):
        _check(tree.operand, text)
    elif isinstance(tree, ast.Compare):
        sides = [tree.left, *tree.comparators]
        for left, operator, right in zip(sides, tree.ops, sides[1:], strict=False):
            _check_comparison(left, operator, right)
    else:
        raise ValueError(text)


def _check_comparison(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> None:
    """A column with a number, text, truth value or None; ``in`` with a list of numbers or texts; a number with a column."""
    if isinstance(left, ast.Name):
        value = ast.literal_eval(right)
        if isinstance(operator, ast.In | ast.NotIn):
            kinds = {type(each) for each in value} if isinstance(value, tuple | list) else set()
            fits = bool(kinds) and (kinds <= {int, float} or kinds == {str})
        elif value is None:
            fits = isinstance(operator, ast.Eq | ast.NotEq | ast.Is | ast.IsNot)
        else:
            fits = type(operator) in COMPARISONS and isinstance(value, int | float | str)
    else:
        value = ast.literal_eval(left)
        fits = isinstance(right, ast.Name) and type(operator) in COMPARISONS and isinstance(value, int | float)
    if not fits:
        raise ValueError(ast.dump(operator))
    for each in value if isinstance(value, tuple | list) else [value]:
        _plain(each)
