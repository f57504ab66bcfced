import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from foretell import steps
from foretell.errors import Invalid, Setup
from foretell.pipeline import Pipeline
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

table: Any = steps.table

FP32, INT64, BYTES = Datatype.FP32, Datatype.INT64, Datatype.BYTES
NAN = float("nan")


class Echo:
    """A model that gives back the features it was given."""

    def __init__(self, width: int | None) -> None:
        self.signature = Signature((TensorSpec("features", FP32, (width,)),), (TensorSpec("features", FP32, (width,)),))

    def forward(self, inputs: Arrays) -> Arrays:
        return inputs

    def close(self) -> None:
        return None


def words(*values: bytes) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_columns_are_found_by_name_and_stacked_in_the_given_order() -> None:
    step = table.columns(["b", "a"], into="x")
    got = step({"a": np.array([1.0, 2.0]), "other": np.array([0, 0]), "b": np.array([3.0, 4.0])})
    assert got["x"].tolist() == [[3, 1], [4, 2]]
    assert sorted(got) == ["other", "x"]


def test_a_pipeline_of_columns_takes_one_value_a_column() -> None:
    pipeline = Pipeline(Echo(2), [table.columns(["age", "size"], into="features")])
    assert [str(spec) for spec in pipeline.signature.inputs] == ["age FP32 []", "size FP32 []"]


def test_a_one_hot_column_widens_the_features() -> None:
    before = [
        table.impute({"age": 40}),
        table.one_hot(["red", "blue"], input="colour"),
        table.columns(["age", "colour"], into="features"),
        table.standardise([40, 0, 0], [10, 1, 1]),
    ]
    pipeline = Pipeline(Echo(3), before)
    assert [str(spec) for spec in pipeline.signature.inputs] == ["age FP32 []", "colour BYTES []"]
    got = pipeline({"age": np.array([NAN, 50], np.float32), "colour": words(b"blue", b"red")})
    assert got["features"].tolist() == [[0, 0, 1], [1, 1, 0]]


def test_too_few_columns_for_the_model_are_refused_at_start() -> None:
    with pytest.raises(Setup, match=r"the model takes features FP32 \[3\], but its steps give features FP32 \[2\]"):
        Pipeline(Echo(3), [table.columns(["a", "b"], into="features")])


def test_standardise_is_what_scikit_learn_does() -> None:
    rows = np.random.default_rng(0).normal(5, 3, (50, 4)).astype(np.float32)
    scaler = StandardScaler().fit(rows.astype(np.float64))
    got = table.standardise(scaler.mean_.tolist(), scaler.scale_.tolist())({"x": rows})["x"]
    np.testing.assert_allclose(got, scaler.transform(rows.astype(np.float64)), rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32


def test_statistics_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps({"mean": [1, 2], "std": [1, 4], "values": {"a": 7}}))
    rows = np.array([[2, 6]], dtype=np.float32)
    assert table.standardise(statistics=str(path))({"x": rows})["x"].tolist() == [[1, 1]]
    assert table.impute(statistics=str(path))({"a": np.array([NAN])})["a"].tolist() == [7]


def test_impute_is_what_scikit_learn_does() -> None:
    rows = np.array([[1, NAN], [NAN, 4], [3, 6]], dtype=np.float32)
    imputer = SimpleImputer(strategy="median").fit(rows)
    got = table.impute(imputer.statistics_.tolist())({"x": rows})["x"]
    np.testing.assert_array_equal(got, imputer.transform(rows))


@given(st.lists(st.sampled_from(["red", "blue", "", "grün"]), min_size=1))
def test_one_hot_and_ordinal_are_what_scikit_learn_does(colours: list[str]) -> None:
    categories = ["grün", "red", "", "blue"]
    column = {"x": words(*(colour.encode() for colour in colours))}
    for_sklearn = np.array(colours, dtype=object)[:, None]
    hot = OneHotEncoder(categories=[categories], sparse_output=False).fit_transform(for_sklearn)
    code = OrdinalEncoder(categories=[categories]).fit_transform(for_sklearn)
    np.testing.assert_array_equal(table.one_hot(categories)(column)["x"], hot)
    np.testing.assert_array_equal(table.ordinal(categories)(column)["x"], code[:, 0])


def test_categories_may_be_whole_numbers() -> None:
    step = table.one_hot([10, 7])
    assert step.takes({"x": TensorSpec("x", FP32)})["x"].dtype is INT64
    assert step({"x": np.array([7, 10])})["x"].tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("step", [table.one_hot(["red", "blue"]), table.ordinal(["red", "blue"])])
def test_an_unknown_category_is_refused_with_its_row(step: Any) -> None:
    with pytest.raises(Invalid, match="did you mean 'blue'") as caught:
        step({"colour": words(b"red", b"bleu")})
    assert caught.value.code == "refused_value"
    assert (caught.value.details["input"], caught.value.details["row"], caught.value.details["got"]) == ("colour", 1, "bleu")


def test_an_unknown_category_may_be_let_through() -> None:
    column = {"x": words(b"red", b"zebra")}
    assert table.one_hot(["red", "blue"], unknown="zeros")(column)["x"].tolist() == [[1, 0], [0, 0]]
    assert table.ordinal(["blue", "red"], unknown=-1, dtype="INT64")(column)["x"].tolist() == [1, -1]


def test_keep_drops_the_rest_and_rename_renames() -> None:
    arrays = {"a": np.array([1]), "b": np.array([2]), "c": np.array([3])}
    assert list(table.keep(["c", "a"])(arrays)) == ["c", "a"]
    assert list(table.rename({"a": "z"})(arrays)) == ["z", "b", "c"]
    specs = {name: TensorSpec(name, FP32) for name in arrays}
    assert list(table.rename({"a": "b", "b": "a"}).gives(specs)) == ["b", "a", "c"]
    with pytest.raises(Setup, match="already is a tensor 'b'"):
        table.rename({"a": "b"}).gives(specs)
    with pytest.raises(Setup, match="no tensor 'x'"):
        table.keep(["x"]).gives(specs)


def test_steps_that_do_not_fit_what_comes_in_are_refused_at_start() -> None:
    wide = {"x": TensorSpec("x", FP32, (3,))}
    for step, specs in (
        (table.columns(["a", "b"], into="x"), {"a": TensorSpec("a", FP32), "b": TensorSpec("b", INT64)}),
        (table.columns(["a", "b"], into="x"), {"a": TensorSpec("a", FP32)}),
        (table.standardise([1, 2], [1, 2]), wide),
        (table.standardise(1, 1), {"x": TensorSpec("x", INT64)}),
        (table.impute([1, 2]), wide),
        (table.one_hot(["a"]), {"x": TensorSpec("x", FP32)}),
        (table.one_hot(["a"]), {"x": TensorSpec("x", BYTES, (2,))}),
        (table.ordinal([1]), {"x": TensorSpec("x", BYTES)}),
    ):
        with pytest.raises(Setup, match="table"):
            step.gives(specs)
    with pytest.raises(Setup, match="one axis"):
        table.columns(["a"], into="x").takes({"x": TensorSpec("x", FP32, (2, 2))})


def test_options_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "half.json").write_text('{"mean": 1}')
    make: Callable[[], object]
    for make in (
        lambda: table.columns("ab", into="x"),
        lambda: table.columns(["a", "a"], into="x"),
        lambda: table.standardise([1, 2], [1, 0]),
        lambda: table.standardise([1, 2], [1, 2, 3]),
        lambda: table.standardise([1, 2]),
        table.standardise,
        lambda: table.standardise([[1], [2]], 1),
        lambda: table.standardise(1, 1, "x.json"),
        lambda: table.standardise(statistics=str(tmp_path / "list.json")),
        lambda: table.standardise(statistics=str(tmp_path / "broken.json")),
        lambda: table.standardise(statistics=str(tmp_path / "half.json")),
        lambda: table.impute([NAN]),
        lambda: table.impute({"a": 1}, input="a"),
        lambda: table.one_hot("red"),
        lambda: table.one_hot(["red", 1]),
        lambda: table.one_hot(["red", "red"]),
        lambda: table.one_hot(["red"], unknown="guess"),
        lambda: table.ordinal(["red"], dtype="BYTES"),
        lambda: table.ordinal(["red"], unknown=0.5, dtype="INT64"),
        lambda: table.keep([]),
        lambda: table.rename({"a": "x", "b": "x"}),
    ):
        with pytest.raises(Setup) as caught:
            make()
        assert caught.value.code == "broken_pipeline"
