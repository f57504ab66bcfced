import re
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from foretell.backends import load_backend
from foretell.errors import Setup, Unavailable
from tests.backends.damaged import survives

Numbers = NDArray[np.float64]


def train(load: Any, rounds: int = 6, categorical: list[int] | None = None, **parameters: Any) -> tuple[Any, Numbers]:
    rows, wanted = load(return_X_y=True)
    group = [len(rows)] if parameters.get("objective") == "lambdarank" else None
    data = lightgbm.Dataset(rows, wanted // 100 if group else wanted, group=group, categorical_feature=categorical or [])
    return lightgbm.train({"verbosity": -1, "num_threads": 1, **parameters}, data, rounds), rows


def saved(booster: Any, folder: Path, name: str = "model.txt") -> str:
    booster.save_model(folder / name)
    return str(folder / name)


REGRESSIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no split": {"min_data_in_leaf": 10_000},
    "dart": {"boosting": "dart", "drop_rate": 0.5},
    "a forest": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "ranking": {"objective": "lambdarank"},
    "counts": {"objective": "poisson"},
    "rooted": {"reg_sqrt": True},
}


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_numbers_are_those_of_the_runtime(kind: str, tmp_path: Path) -> None:
    booster, rows = train(load_diabetes, **{"objective": "regression", **REGRESSIONS[kind]})
    backend = load_backend(saved(booster, tmp_path))
    assert str(backend.signature) == "(features FP64 [10]) -> (prediction FP64 [])"
    np.testing.assert_array_equal(backend.forward({"features": rows})["prediction"], booster.predict(rows))


def test_two_classes_are_label_and_probabilities(tmp_path: Path) -> None:
    booster, rows = train(load_breast_cancer, objective="binary")
    rows[::3, 2] = np.nan
    answers = load_backend(saved(booster, tmp_path, "model.lgb")).forward({"features": rows})
    assert np.allclose(answers["probabilities"][:, 1].astype(np.float64), booster.predict(rows), rtol=1e-6)
    np.testing.assert_array_equal(answers["label"], booster.predict(rows) > 0.5)


@pytest.mark.parametrize("objective", ["multiclass", "multiclassova"])
def test_several_classes_are_label_and_probabilities(objective: str, tmp_path: Path) -> None:
    booster, rows = train(load_iris, objective=objective, num_class=3)
    answers = load_backend(saved(booster, tmp_path)).forward({"features": rows})
    assert np.allclose(answers["probabilities"].astype(np.float64), booster.predict(rows), rtol=1e-6)
    np.testing.assert_array_equal(answers["label"], booster.predict(rows).argmax(axis=1))


def with_categories(folder: Path) -> tuple[str, Any, Numbers]:
    rows, wanted = load_breast_cancer(return_X_y=True)
    rows[:, 0] = rows[:, 0] // 2
    wanted = wanted ^ (rows[:, 0] % 3 == 0)
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows[:, :4], wanted, categorical_feature=[0]), 6)
    return saved(booster, folder), booster, rows[:, :4]


def test_a_category_is_its_number_and_unknown_ones_go_where_the_runtime_sends_them(tmp_path: Path) -> None:
    file, booster, rows = with_categories(tmp_path)
    assert re.search("num_cat=[1-9]", Path(file).read_text())
    rows[:4, 0] = 1e6, -1, np.nan, 3.7
    answers = load_backend(file).forward({"features": rows})
    assert np.allclose(answers["probabilities"][:, 1].astype(np.float64), booster.predict(rows), rtol=1e-6)


def test_linear_trees_are_refused(tmp_path: Path) -> None:
    booster, _ = train(load_diabetes, 2, linear_tree=True)
    with pytest.raises(Setup, match="tree 0: it has linear models in its leaves, which are not served: train it without"):
        load_backend(saved(booster, tmp_path))


def test_text_of_something_else_is_refused_with_what_was_looked_at(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("tree\nhouse\n")
    with pytest.raises(Setup, match=r"does not begin as a \.txt file of lightgbm does") as refusal:
        load_backend(tmp_path / "labels.txt")
    assert refusal.value.code == "unknown_format"


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    booster, _ = train(load_diabetes)
    file = Path(saved(booster, tmp_path))
    file.write_text(file.read_text().partition("Tree=3")[0])
    with pytest.raises(Setup, match="it is cut off: it has 3 of 6 trees"):
        load_backend(str(file))


@pytest.mark.parametrize(
    ("line", "instead", "why"),
    [
        ("left_child=", "left_child=0 ", "left_child has"),
        (r"left_child=\S+", "left_child=0", "reached twice"),
        (r"split_feature=\S+", "split_feature=30", "not from 0 to 29"),
        (r"threshold=\S+", "threshold=1e999", "not finite"),
        (r"num_leaves=\S+", "num_leaves=99999999999999999999", "num_leaves is"),
        (r"decision_type=\S+", "decision_type=1", "splits by categories, but lists none"),
    ],
)
def test_a_tree_that_is_none_is_refused(line: str, instead: str, why: str, tmp_path: Path) -> None:
    file = Path(saved(train(load_breast_cancer, 2, objective="binary")[0], tmp_path))
    head, mark, trees = file.read_text().partition("Tree=1")
    file.write_text(head + mark + re.sub(line, instead, trees, count=1))
    with pytest.raises(Setup, match=f"tree 1: .*{why}"):
        load_backend(str(file))


def test_no_damaged_file_ends_the_process(tmp_path: Path) -> None:
    survives(Path(with_categories(tmp_path)[0]), tmp_path)


def test_a_closed_model_says_so(tmp_path: Path) -> None:
    booster, rows = train(load_diabetes, 2)
    backend = load_backend(saved(booster, tmp_path))
    backend.close()
    with pytest.raises(Unavailable, match="the model is closed"):
        backend.forward({"features": rows})
