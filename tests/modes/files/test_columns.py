"""Which columns fill which input."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from foretell.errors import Setup
from foretell.modes.files.columns import bind
from foretell.modes.files.rows import Source
from foretell.tensors import Datatype, Signature, TensorSpec

X3 = TensorSpec("x", Datatype.FP32, (3,))
AGE = TensorSpec("age", Datatype.FP32)


def bound(specs: tuple[TensorSpec, ...], columns: list[str], **names: str) -> Mapping[str, tuple[str, ...]]:
    source = Source(Path("rows.csv"), Signature(specs, ()), 1, names)
    return {binding.spec.name: binding.columns for binding in bind(source, columns)}


def test_a_column_of_the_inputs_name_comes_first() -> None:
    assert bound((X3,), ["x", "x_0", "x_1", "x_2"]) == {"x": ("x",)}


def test_numbered_columns_come_next_in_any_order() -> None:
    assert bound((X3,), ["id", "x_2", "x_1", "x_0"]) == {"x": ("x_0", "x_1", "x_2")}


def test_exactly_as_many_columns_as_elements_are_taken_in_order() -> None:
    assert bound((X3,), ["c", "a", "b"]) == {"x": ("c", "a", "b")}


@pytest.mark.parametrize(
    ("specs", "columns", "says"),
    [
        (
            (X3,),
            ["c", "a", "b"],
            "input 'x' takes the 3 columns of rows.csv in the order of the file: name them in a table.columns",
        ),
        ((AGE,), ["years"], "input 'age' takes the only column of rows.csv, 'years': name them"),
        ((X3,), ["x_0", "x_1", "x_2"], None),
        ((X3,), ["x"], None),
    ],
)
def test_columns_taken_by_their_place_are_told(
    specs: tuple[TensorSpec, ...], columns: list[str], says: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    bound(specs, columns)
    assert (says is None and not caplog.messages) or (says is not None and says in caplog.messages[0])


def test_a_map_names_a_column_or_several() -> None:
    assert bound((AGE,), ["years", "name"], age="years") == {"age": ("years",)}
    assert bound((X3,), ["a", "b", "c", "d"], x="d, b,a") == {"x": ("d", "b", "a")}


@pytest.mark.parametrize(
    ("specs", "columns", "names", "words"),
    [
        ((AGE, X3), ["agee", "x"], {}, "did you mean 'agee'"),
        ((X3,), ["a", "b"], {}, "its 2 columns are not the 3 that the input takes"),
        ((X3,), ["a", "b"], {}, "list them: --map x=a,b,c, or in a table.columns step of pipeline.toml"),
        ((TensorSpec("mean radius", Datatype.FP32),), ["a", "b"], {}, "To use another column: --map 'mean radius=COLUMN'"),
        ((X3,), ["a", "b", "c"], {"x": "a,b"}, "mapped to 2 columns, it takes 3"),
        ((X3,), ["a", "b", "c"], {"x": "a,b,z"}, "no column 'z'"),
        ((AGE,), ["age"], {"agee": "age"}, "did you mean 'age'"),
        ((AGE,), ["age", "age"], {}, "two columns named 'age'"),
    ],
)
def test_a_column_that_is_not_there_is_named(
    specs: tuple[TensorSpec, ...], columns: list[str], names: dict[str, str], words: str
) -> None:
    with pytest.raises(Setup, match=words) as refusal:
        bound(specs, columns, **names)
    assert refusal.value.code == "missing_column"
