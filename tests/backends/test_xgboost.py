import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from foretell.backends import describe, load_backend
from foretell.errors import Setup, Unavailable
from tests.backends.damaged import survives

Numbers = NDArray[np.float32]


def table(load: Any) -> tuple[Numbers, Numbers]:
    rows, wanted = load(return_X_y=True)
    return rows.astype(np.float32), wanted.astype(np.float32)


def train(rows: Numbers, wanted: Numbers, rounds: int = 8, **parameters: Any) -> Any:
    data = xgboost.DMatrix(rows, wanted)
    if str(parameters.get("objective", "")).startswith("rank:"):
        data.set_group([len(rows)])
    return xgboost.train({"nthread": 1, **parameters}, data, rounds)


@pytest.fixture(params=["json", "ubj"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def saved(booster: Any, folder: Path, suffix: str = "json") -> str:
    file = folder / f"model.{suffix}"
    booster.save_model(file)
    return str(file)


REGRESSIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pruned": {"gamma": 2000, "tree_method": "exact"},
    "several trees a round": {"num_parallel_tree": 3, "subsample": 0.5, "learning_rate": 1},
    "counts": {"objective": "count:poisson"},
    "ranking": {"objective": "rank:pairwise"},
    "quantiles": {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]},
}


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_numbers_are_those_of_the_runtime(kind: str, suffix: str, tmp_path: Path) -> None:
    rows, wanted = table(load_diabetes)
    if kind == "ranking":
        wanted = wanted // 100
    booster = train(rows, wanted, **REGRESSIONS[kind])
    answer = load_backend(saved(booster, tmp_path, suffix)).forward({"features": rows})
    np.testing.assert_array_equal(answer["prediction"], booster.predict(xgboost.DMatrix(rows)))


def test_dart_answers_by_all_its_trees_with_their_weights(suffix: str, tmp_path: Path) -> None:
    rows, wanted = table(load_diabetes)
    booster = train(rows, wanted, booster="dart", rate_drop=0.4)
    answer = load_backend(saved(booster, tmp_path, suffix)).forward({"features": rows})["prediction"]
    assert np.allclose(answer.astype(np.float64), booster.predict(xgboost.DMatrix(rows)), rtol=1e-5)


def test_several_targets_are_one_output(suffix: str, tmp_path: Path) -> None:
    rows, wanted = table(load_diabetes)
    booster = train(rows, np.stack([wanted, 2 * wanted], axis=1))
    backend = load_backend(saved(booster, tmp_path, suffix))
    assert str(backend.signature) == "(features FP32 [10]) -> (prediction FP32 [2])"
    np.testing.assert_array_equal(backend.forward({"features": rows})["prediction"], booster.predict(xgboost.DMatrix(rows)))


@pytest.mark.parametrize("objective", ["multi:softmax", "multi:softprob"])
def test_several_classes_are_label_and_probabilities(objective: str, suffix: str, tmp_path: Path) -> None:
    rows, wanted = table(load_iris)
    booster = train(rows, wanted, objective=objective, num_class=3)
    answers = load_backend(saved(booster, tmp_path, suffix)).forward({"features": rows})
    told = booster.predict(xgboost.DMatrix(rows))
    np.testing.assert_array_equal(answers["label"], told if told.ndim == 1 else told.argmax(axis=1))
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1, rtol=1e-6)


def test_nan_is_a_missing_value(suffix: str, tmp_path: Path) -> None:
    rows, wanted = table(load_breast_cancer)
    rows[::3, 2] = np.nan
    booster = train(rows, wanted, objective="binary:logistic")
    answers = load_backend(saved(booster, tmp_path, suffix)).forward({"features": rows})
    np.testing.assert_array_equal(answers["probabilities"][:, 1], booster.predict(xgboost.DMatrix(rows)))


def categorical(folder: Path, suffix: str = "json") -> tuple[str, Any, Numbers]:
    rows, wanted = table(load_breast_cancer)
    rows = rows[:, :6]
    rows[:, 0] //= 5
    data = xgboost.DMatrix(rows, wanted, feature_types=["c"] + ["q"] * 5, enable_categorical=True)
    parameters = {"objective": "binary:logistic", "max_cat_to_onehot": 2, "max_depth": 5, "nthread": 1}
    booster = xgboost.train(parameters, data, 6)
    return saved(booster, folder, suffix), booster, rows


def test_a_category_is_its_number_and_unknown_ones_go_where_the_runtime_sends_them(suffix: str, tmp_path: Path) -> None:
    file, booster, rows = categorical(tmp_path, suffix)
    rows[:3, 0] = 99, -1, np.nan
    answers = load_backend(file).forward({"features": rows})
    np.testing.assert_array_equal(answers["probabilities"][:, 1], booster.inplace_predict(rows))


def test_a_model_that_was_stopped_early_answers_by_its_best_round(tmp_path: Path) -> None:
    rows, wanted = table(load_breast_cancer)
    parameters = {"objective": "binary:logistic", "learning_rate": 1.0, "nthread": 1}
    halves = [xgboost.DMatrix(rows[part::2], wanted[part::2]) for part in (0, 1)]
    booster = xgboost.train(parameters, halves[0], 60, evals=[(halves[1], "v")], early_stopping_rounds=5, verbose_eval=False)
    backend = load_backend(saved(booster, tmp_path))
    best = booster.best_iteration + 1
    assert describe(backend)["rounds"] == f"{best} of {booster.num_boosted_rounds()}, the best by early stopping"
    want = booster.predict(xgboost.DMatrix(rows), iteration_range=(0, best))
    np.testing.assert_array_equal(backend.forward({"features": rows})["probabilities"][:, 1], want)


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"booster": "gblinear"}, "its booster is 'gblinear'"),
        ({"multi_strategy": "multi_output_tree", "tree_method": "hist"}, "its leaves are vectors"),
    ],
)
def test_what_is_not_served_is_refused(parameters: dict[str, Any], why: str, suffix: str, tmp_path: Path) -> None:
    rows, wanted = table(load_diabetes)
    targets = np.stack([wanted, wanted], axis=1) if "multi_strategy" in parameters else wanted
    with pytest.raises(Setup, match=why):
        load_backend(saved(train(rows, targets, 2, **parameters), tmp_path, suffix))


def test_a_model_of_a_later_release_is_refused(tmp_path: Path) -> None:
    file = Path(saved(train(*table(load_diabetes), 2), tmp_path))
    told = json.loads(file.read_text())
    told["version"] = [99, 1, 0]
    file.write_text(json.dumps(told))
    with pytest.raises(Setup, match=r"it is of release 99\.1, newer than"):
        load_backend(str(file))


def test_json_of_something_else_is_refused_with_what_was_looked_at(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"layers": []}')
    with pytest.raises(Setup, match=r"does not begin as a \.json file of xgboost does") as refusal:
        load_backend(tmp_path / "model.json")
    assert refusal.value.code == "unknown_format"


def change(told: Any, path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for key in outer:
        told = told[int(key)] if isinstance(told, list) else told[key]
    told[int(last) if isinstance(told, list) else last] = value


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("left_children.0", 0, "reached twice"),
        ("left_children.0", 10**6, "not from -1 to"),
        ("left_children.0", -1, "one child"),
        ("split_indices.0", 30, "splits by feature 30, where there are 30"),
        ("split_conditions", [1.0], "numbers, not"),
        ("split_conditions.0", "a", "no finite number"),
        ("tree_param.num_nodes", "3000000000", "num_nodes"),
        ("split_type.0", 1, "categories are not those"),
    ],
)
def test_a_tree_that_is_none_is_refused(path: str, value: Any, why: str, tmp_path: Path) -> None:
    file = Path(saved(train(*table(load_breast_cancer), 2, objective="binary:logistic"), tmp_path))
    told = json.loads(file.read_text())
    change(told["learner"]["gradient_booster"]["model"]["trees"][1], path, value)
    file.write_text(json.dumps(told))
    with pytest.raises(Setup, match=rf"tree 1: .*{re.escape(why)}"):
        load_backend(str(file))


def test_no_damaged_file_ends_the_process(suffix: str, tmp_path: Path) -> None:
    file, _, _ = categorical(tmp_path, suffix)
    survives(Path(file), tmp_path)


def test_a_closed_model_says_so(tmp_path: Path) -> None:
    rows, wanted = table(load_diabetes)
    backend = load_backend(saved(train(rows, wanted, 2), tmp_path))
    backend.close()
    with pytest.raises(Unavailable, match="the model is closed"):
        backend.forward({"features": rows})


def test_nothing_of_the_runtimes_stack_is_in_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"learner": 3}')
    run = subprocess.run(
        [sys.executable, "-m", "foretell", "inspect", str(tmp_path / "model.json")], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert "Stack trace" not in run.stderr
    assert "Traceback" not in run.stderr
