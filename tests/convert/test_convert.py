"""What is converted answers as before, or nothing is written."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression

from foretell.backends import ModelOptions, load_backend
from foretell.cli import cli
from foretell.convert import CONVERTERS, Wanted, compare, convert, make_rows
from foretell.errors import Setup
from foretell.tensors import Arrays, Signature, TensorSpec
from tests.backends import graphs

TRUSTED = Wanted(options=ModelOptions(trust=True))


class Fake:
    """Answers what it is told, to any rows."""

    def __init__(self, answers: Arrays) -> None:
        self.signature = Signature((), tuple(TensorSpec(name, _datatype(array), ()) for name, array in answers.items()))
        self.answers = answers

    def forward(self, inputs: Arrays) -> Arrays:
        return self.answers

    def close(self) -> None:
        return None


def _datatype(array: Any) -> Any:
    from foretell.tensors import Datatype

    return Datatype.FP32 if array.dtype.kind == "f" else Datatype.INT64


def linear(folder: Path) -> str:
    return graphs.save(graphs.linear(), folder / "model.onnx")


XGBOOST: dict[str, dict[str, Any]] = {
    "plain": {},
    "dart": {"booster": "dart", "rate_drop": 0.4},
    "gamma": {"objective": "reg:gamma"},
    "tweedie": {"objective": "reg:tweedie"},
    "counts": {"objective": "count:poisson"},
    "ranking": {"objective": "rank:pairwise"},
    "quantiles": {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]},
    "a forest": {"num_parallel_tree": 3, "subsample": 0.5, "learning_rate": 1},
}
LIGHTGBM: dict[str, dict[str, Any]] = {
    "plain": {"objective": "regression"},
    "a forest": {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "no split": {"objective": "regression", "min_data_in_leaf": 10_000},
    "counts": {"objective": "poisson"},
    "ranking": {"objective": "lambdarank"},
}


@pytest.mark.parametrize("kind", XGBOOST)
def test_xgboost_regressions_become_onnx(kind: str, tmp_path: Path) -> None:
    from tests.backends.test_xgboost import saved, table, train

    rows, wanted = table(load_diabetes)
    source = saved(train(rows, wanted // 100 if kind == "ranking" else wanted, **XGBOOST[kind]), tmp_path, "ubj")
    convert(source, tmp_path / "model.onnx", Wanted(1e-5))
    want, got = (load_backend(path).forward({"features": rows})["prediction"] for path in (source, tmp_path / "model.onnx"))
    assert np.allclose(got.astype(np.float64), want.astype(np.float64), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softmax"])
def test_xgboost_classifiers_become_onnx_with_the_same_outputs(objective: str, tmp_path: Path) -> None:
    from tests.backends.test_xgboost import saved, table, train

    rows, wanted = table(load_breast_cancer if objective == "binary:logistic" else load_iris)
    rows[::3, 1] = np.nan
    more = {"num_class": 3} if objective == "multi:softmax" else {}
    source = saved(train(rows, wanted, objective=objective, **more), tmp_path)
    np.save(tmp_path / "rows.npy", rows)
    report = convert(source, tmp_path / "model.onnx", Wanted(1e-5, tmp_path / "rows.npy"))
    assert report.own_rows
    assert report.rows == len(rows)
    assert load_backend(tmp_path / "model.onnx").signature == load_backend(source).signature


@pytest.mark.parametrize("kind", LIGHTGBM)
def test_lightgbm_regressions_become_onnx(kind: str, tmp_path: Path) -> None:
    from tests.backends.test_lightgbm import saved, train

    booster, rows = train(load_diabetes, **LIGHTGBM[kind])
    source = saved(booster, tmp_path)
    convert(source, tmp_path / "model.onnx", Wanted(1e-5))
    want, got = (load_backend(path).forward({"features": rows})["prediction"] for path in (source, tmp_path / "model.onnx"))
    assert np.allclose(got.astype(np.float64), want.astype(np.float64), rtol=1e-5)


@pytest.mark.parametrize("objective", ["binary", "multiclass", "multiclassova"])
def test_lightgbm_classifiers_become_onnx_with_the_same_outputs(objective: str, tmp_path: Path) -> None:
    from tests.backends.test_lightgbm import saved, train

    more: dict[str, Any] = {} if objective == "binary" else {"num_class": 3}
    load = load_iris if more else load_breast_cancer
    booster, rows = train(load, objective=objective, **more)
    source = saved(booster, tmp_path)
    rows[::4, 1] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    convert(source, tmp_path / "model.onnx", Wanted(1e-5, tmp_path / "rows.npy"))
    assert load_backend(tmp_path / "model.onnx").signature == load_backend(source).signature


def test_splits_by_categories_are_refused(tmp_path: Path) -> None:
    from tests.backends import test_lightgbm, test_xgboost

    for file in (test_xgboost.categorical(tmp_path)[0], test_lightgbm.with_categories(tmp_path)[0]):
        with pytest.raises(Setup, match="it splits by categories, which ONNX has no node for"):
            convert(file, tmp_path / "out.onnx", Wanted())
    assert not (tmp_path / "out.onnx").exists()


def test_an_estimator_becomes_onnx_only_when_it_is_trusted(tmp_path: Path) -> None:
    rows, labels = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=500).fit(rows, labels), tmp_path / "model.joblib")
    with pytest.raises(Setup) as refusal:
        convert(str(tmp_path / "model.joblib"), tmp_path / "model.onnx", Wanted())
    assert refusal.value.code == "untrusted_model"
    assert f"foretell convert {tmp_path / 'model.joblib'} -o model.onnx --trust" in refusal.value.message
    report = convert(str(tmp_path / "model.joblib"), tmp_path / "model.onnx", TRUSTED)
    assert [each.output for each in report.differences] == ["label", "probabilities"]


def test_onnx_becomes_an_ir_with_its_weights(tmp_path: Path) -> None:
    report = convert(linear(tmp_path), tmp_path / "out" / "model.xml", Wanted(1e-5))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["model.bin", "model.xml"]
    assert report.target_format == "openvino"
    assert report.rows == 64


def test_an_operator_that_the_other_runtime_lacks_is_named(tmp_path: Path) -> None:
    from tests.backends.test_xgboost import saved, table, train

    convert(saved(train(*table(load_iris), 2), tmp_path), tmp_path / "trees.onnx", Wanted())
    with pytest.raises(Setup, match="TreeEnsembleRegressor"):
        convert(str(tmp_path / "trees.onnx"), tmp_path / "trees.xml", Wanted())


def test_what_is_further_off_than_allowed_is_not_written(tmp_path: Path) -> None:
    from tests.backends.test_xgboost import saved, table, train

    source = saved(train(*table(load_diabetes)), tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"what was there")
    with pytest.raises(Setup, match=r"is off by up to .* where 0 is allowed: nothing was written") as refusal:
        convert(source, tmp_path / "model.onnx", Wanted(0.0))
    assert refusal.value.code == "wrong_conversion"
    assert (tmp_path / "model.onnx").read_bytes() == b"what was there"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.onnx"]


@pytest.mark.parametrize(
    ("want", "got", "absolute", "relative", "deciding"),
    [
        ([2.0, -4.0], [2.0, -4.5], 0.5, 0.125, 0),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0, 0.0, 0),
        ([np.nan, 1.0], [1.0, 1.0], np.inf, np.inf, 0),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0, 0.0, 0),
        ([1, 2], [1, 3], 0.0, 0.0, 1),
    ],
)
def test_differences_are_the_largest(want: Any, got: Any, absolute: float, relative: float, deciding: int) -> None:
    (found,) = compare(Fake({"y": np.array(want)}), Fake({"y": np.array(got)}), {})
    assert (found.absolute, found.relative, found.deciding) == (absolute, relative, deciding)


def test_a_label_may_differ_where_its_scores_are_as_good_as_equal() -> None:
    scores = np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)
    original = Fake({"label": np.array([0, 0]), "scores": scores})
    assert compare(original, Fake({"label": np.array([1, 0]), "scores": scores}), {})[0].deciding == 0
    assert compare(original, Fake({"label": np.array([0, 1]), "scores": scores}), {})[0].deciding == 1


def test_other_outputs_or_shapes_are_refused() -> None:
    one, two = Fake({"y": np.zeros(2)}), Fake({"y": np.zeros(2), "z": np.zeros(2)})
    with pytest.raises(Setup, match="the original gives y, the conversion y, z"):
        compare(one, two, {})
    with pytest.raises(Setup, match=r"has shape \[2\], in the conversion \[3\]"):
        compare(one, Fake({"y": np.zeros(3)}), {})


def test_made_up_rows_are_the_same_each_time() -> None:
    from foretell.tensors import Datatype

    kinds = (Datatype.FP32, Datatype.INT64, Datatype.BYTES, Datatype.BOOL)
    signature = Signature(tuple(TensorSpec(str(kind), kind, (None, 2)) for kind in kinds), ())
    first, second = make_rows(signature), make_rows(signature)
    for spec in signature.inputs:
        assert first[spec.name].shape == (64, 16, 2)
        np.testing.assert_array_equal(first[spec.name], second[spec.name])
    signature.conform(first)


@pytest.mark.parametrize(
    ("target", "code", "why"),
    [
        ("out.zip", "unknown_format", r"end its name in \.onnx, \.xml, \.tflite"),
        ("out.tflite", "unknown_format", r"does not become one of litert: it can become .*\.xml"),
    ],
)
def test_a_target_that_cannot_be_is_refused(target: str, code: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(Setup, match=why) as refusal:
        convert(linear(tmp_path), tmp_path / target, Wanted())
    assert refusal.value.code == code


def test_rows_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.ndjson").write_text('{"x": "many"}\n')
    with pytest.raises(Setup, match=r"rows\.ndjson, row 0"):
        convert(linear(tmp_path), tmp_path / "out.xml", Wanted(rows=tmp_path / "rows.ndjson"))
    assert not (tmp_path / "out.xml").exists()


def test_the_verb_shows_how_far_the_conversion_is_off(tmp_path: Path) -> None:
    run = CliRunner().invoke(cli, ["convert", linear(tmp_path), "-o", str(tmp_path / "model.xml")])
    assert run.exit_code == 0, run.output
    assert "model.xml: onnx as openvino" in run.output
    assert "compared on 64 rows that were made up:" in run.output
    assert "  y  off by up to" in run.output


def test_the_verb_fails_when_it_is_too_far_off(tmp_path: Path) -> None:
    run = CliRunner().invoke(cli, ["convert", linear(tmp_path), "-o", str(tmp_path / "model.xml"), "--tolerance", "0"])
    assert run.exit_code == 1
    assert "[wrong_conversion]" in run.output


def test_every_converter_is_of_formats_that_exist() -> None:
    from foretell.backends import BACKENDS
    from foretell.convert import TARGETS

    assert {name for pair in CONVERTERS for name in pair} <= set(BACKENDS)
    assert {into for _, into in CONVERTERS} <= set(TARGETS.values())
