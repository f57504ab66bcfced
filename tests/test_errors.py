"""The error tree and its table of codes."""

import ast
import re
from pathlib import Path

import pytest

import foretell
from foretell import errors
from foretell.codes import CODES, tell
from foretell.errors import ForetellError, Invalid, Kind, Setup
from foretell.modes.http.status import STATUS

PACKAGE = Path(foretell.__file__).parent
CLASSES = {name: thing for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, ForetellError)}


def _raised() -> dict[str, set[str]]:
    """Code -> classes it is raised with: every call of an error class with a literal first argument in the package."""
    raised: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute) and node.args:
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                code = node.args[0]
                if name in CLASSES and isinstance(code, ast.Constant) and isinstance(code.value, str):
                    raised.setdefault(code.value, set()).add(name)
    return raised


def _literals() -> set[str]:
    """Every text constant of the package outside errors.py: a code may also reach its error through a table."""
    return {
        node.value
        for path in PACKAGE.rglob("*.py")
        if path.name != "errors.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_an_error_has_a_code_a_sentence_and_details() -> None:
    error = errors.Invalid("wrong_shape", "input 'x' has shape [2], the model takes [3]", input="x")
    assert (error.code, error.message, str(error)) == ("wrong_shape", error.message, error.message)
    assert error.details == {"input": "x"}
    assert error.kind is Kind.INVALID


def test_every_kind_has_one_class() -> None:
    kinds = [error.kind for name, error in CLASSES.items() if name != "ForetellError"]
    assert sorted(kinds, key=lambda kind: kind.name) == sorted(Kind, key=lambda kind: kind.name)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"^[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [name for name in CLASSES if name != "ForetellError"]


def test_every_kind_has_an_http_status() -> None:
    assert set(STATUS) == set(Kind)
    assert all(400 <= status < 600 for status in STATUS.values())


def test_every_code_that_is_raised_is_in_the_table_with_its_class() -> None:
    for code, classes in _raised().items():
        assert code in CODES, f"{code!r} is raised, but foretell.errors.CODES does not know it"
        assert classes == {CODES[code][0].__name__}, code


def test_every_code_in_the_table_is_raised_somewhere() -> None:
    assert set(CODES) - _literals() == set()


@pytest.mark.parametrize("code", CODES)
def test_every_code_says_what_it_means_and_what_to_do(code: str) -> None:
    _, meaning, cure = CODES[code]
    assert re.fullmatch(r"[a-z_]+", code)
    assert meaning.endswith(".")
    assert cure.endswith(".")


def test_what_a_caller_is_told_of_a_setup_names_no_file() -> None:
    assert "/srv" not in tell(Setup("broken_model", "/srv/m.onnx cannot be loaded"))
    assert tell(Invalid("bad_row", "row 3 lacks 'x'")) == "row 3 lacks 'x'"
