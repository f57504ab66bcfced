import hashlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # its types are another package
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foretell.backends import Backend, ModelOptions, describe, load_backend
from foretell.backends.sklearn import NativeModel, compare, wrap
from foretell.errors import Setup
from foretell.tensors import Array, Arrays

FEATURES, CLASSES = load_iris(return_X_y=True)
FEATURES = FEATURES.astype(np.float32)
NAMES = np.array(["setosa", "versicolor", "vérginica"])
ROWS: Arrays = {"features": FEATURES[::7]}


class Homemade(LogisticRegression):  # type: ignore[misc]  # the package has no types
    """An estimator that no converter knows."""

    def predict(self, features: Any) -> Any:
        return super().predict(features)


class Trap:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def logistic(classes: Array = CLASSES, features: Array = FEATURES) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, classes)


ESTIMATORS = {
    "multiclass": (logistic, "(label INT64 [], probabilities FP32 [3])"),
    "binary": (lambda: logistic(CLASSES % 2), "(label INT64 [], probabilities FP32 [2])"),
    "boolean": (lambda: logistic(CLASSES > 1), "(label BOOL [], probabilities FP32 [2])"),
    "text": (lambda: logistic(NAMES[CLASSES]), "(label BYTES [], probabilities FP32 [3])"),
    "forest": (
        lambda: RandomForestClassifier(5, random_state=0).fit(FEATURES, CLASSES),
        "(label INT64 [], probabilities FP32 [3])",
    ),
    "boosting": (
        lambda: HistGradientBoostingClassifier(max_iter=3).fit(FEATURES, CLASSES),
        "(label INT64 [], probabilities FP32 [3])",
    ),
    "without probabilities": (lambda: RidgeClassifier().fit(FEATURES, CLASSES), "(label INT64 [])"),
    "regression": (lambda: LinearRegression().fit(FEATURES[:, :3], FEATURES[:, 3]), "(prediction FP32 [])"),
    "regression of two": (lambda: LinearRegression().fit(FEATURES, FEATURES[:, :2] * 2), "(prediction FP32 [2])"),
    "forest regression": (lambda: RandomForestRegressor(5, random_state=0).fit(FEATURES, CLASSES), "(prediction FP32 [])"),
    "clusters": (lambda: KMeans(3, n_init=1, random_state=0).fit(FEATURES), "(prediction INT64 [])"),
}


def rows_for(backend: Backend) -> Arrays:
    width = backend.signature.inputs[0].shape[0]
    return {"features": FEATURES[::7, :width].astype(backend.signature.inputs[0].dtype.numpy)}


def assert_equal(got: Arrays, want: Arrays, tolerance: float = 1e-4) -> None:
    assert list(got) == list(want)
    for name, array in want.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        if array.dtype.kind == "f":
            np.testing.assert_allclose(floats(got[name]), floats(array), rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(got[name], array)


def floats(array: Array) -> NDArray[np.float64]:
    return array.astype(np.float64)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_onnx_and_the_estimator_itself_give_the_same_tensors(kind: str) -> None:
    make: Callable[[], Any]
    make, outputs = ESTIMATORS[kind]
    estimator = make()
    converted, native = wrap(estimator), wrap(estimator, ModelOptions(native=True))
    assert str(converted.signature).endswith(outputs)
    assert str(native.signature) == str(converted.signature)
    rows = rows_for(native)
    assert_equal(converted.forward(rows), native.forward(rows))
    assert (describe(converted)["format"], describe(native)["format"]) == ("ONNX", "scikit-learn")


def test_the_answers_are_those_of_the_estimator() -> None:
    estimator = logistic(NAMES[CLASSES])
    answers = wrap(estimator).forward(ROWS)
    assert [label.decode() for label in answers["label"]] == estimator.predict(ROWS["features"]).tolist()
    np.testing.assert_allclose(
        floats(answers["probabilities"]), estimator.predict_proba(ROWS["features"]), rtol=1e-4, atol=1e-6
    )


def test_doubles_are_kept_where_they_are_asked_for() -> None:
    estimator = logistic()
    backend = wrap(estimator, ModelOptions(options={"dtype": "FP64"}))
    assert str(backend.signature) == "(features FP64 [4]) -> (label INT64 [], probabilities FP64 [3])"
    rows = rows_for(backend)
    np.testing.assert_allclose(
        floats(backend.forward(rows)["probabilities"]), estimator.predict_proba(rows["features"]), rtol=1e-12
    )


def test_load_takes_a_live_estimator() -> None:
    assert str(load_backend(logistic()).signature) == str(wrap(logistic()).signature)


def test_an_estimator_fitted_on_named_columns_is_served() -> None:
    table = pd.DataFrame(FEATURES, columns=list("abcd"))
    assert_equal(wrap(logistic(features=table)).forward(ROWS), wrap(logistic()).forward(ROWS))


def test_what_cannot_be_converted_says_how_to_run_it_anyway() -> None:
    estimator = Homemade().fit(FEATURES, CLASSES)
    with pytest.raises(Setup, match="set `native = true` for this model") as refusal:
        wrap(estimator)
    assert refusal.value.code == "broken_model"
    native = wrap(estimator, ModelOptions(native=True))
    assert native.forward(ROWS)["label"].tolist() == estimator.predict(ROWS["features"]).tolist()


def test_a_conversion_may_choose_otherwise_where_two_classes_tie() -> None:
    forest = RandomForestClassifier(20, random_state=0).fit(*load_breast_cancer(return_X_y=True))
    assert describe(wrap(forest))["format"] == "ONNX"


class Contrary:
    """A model that answers another label than its estimator, with the same probabilities."""

    def __init__(self, native: NativeModel) -> None:
        self.native = native
        self.signature = native.signature

    def forward(self, inputs: Arrays) -> Arrays:
        answers = self.native.forward(inputs)
        return {**answers, "label": np.full_like(answers["label"], 7)}

    def close(self) -> None:
        self.native.close()


def test_a_label_that_differs_from_its_probabilities_is_no_tie() -> None:
    native = wrap(logistic(), ModelOptions(native=True))
    assert isinstance(native, NativeModel)
    with pytest.raises(ValueError, match="output 'label' differs"):
        compare(Contrary(native), native)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_conversion_that_answers_otherwise_is_refused() -> None:
    """skl2onnx gives a multilabel network's probabilities in another shape than scikit-learn."""
    several = np.stack([CLASSES > 0, CLASSES > 1], axis=1)
    with pytest.raises(Setup, match=r"output 'probabilities' differs .* set `native = true`"):
        wrap(MLPClassifier(max_iter=20, random_state=0).fit(FEATURES, several))


def test_several_classifiers_in_one_are_refused() -> None:
    several = np.stack([CLASSES > 0, CLASSES > 1], axis=1)
    with pytest.raises(Setup, match="'probabilities' comes in 2 parts"):
        wrap(RandomForestClassifier(3, random_state=0).fit(FEATURES, several))


def test_an_estimator_that_is_not_fitted_is_refused() -> None:
    with pytest.raises(Setup, match="the estimator LogisticRegression cannot be loaded") as refusal:
        wrap(LogisticRegression())
    assert refusal.value.code == "broken_model"


@pytest.mark.parametrize("thing", [StandardScaler().fit(FEATURES), {"a": 1}])
def test_what_does_not_predict_is_no_model(thing: object) -> None:
    with pytest.raises(Setup, match=r"not an estimator with predict\(\)") as refusal:
        load_backend(thing)
    assert refusal.value.code == "unknown_format"


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(Setup, match="no option 'dtyp': did you mean 'dtype'"):
        wrap(logistic(), ModelOptions(options={"dtyp": "FP64"}))
    with pytest.raises(Setup, match="takes FP32 or FP64, got 'INT8'"):
        wrap(logistic(), ModelOptions(options={"dtype": "INT8"}))


@pytest.mark.parametrize("name", ["m.joblib", "m.pkl", "m.pickle"])
def test_without_trust_nothing_is_unpickled(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Trap(tmp_path / "trace")))
    with pytest.raises(Setup, match=r"foretell convert .* --trust; or .* `trust = true`") as refusal:
        load_backend(tmp_path / name)
    assert refusal.value.code == "untrusted_model"
    assert name in refusal.value.message
    assert not (tmp_path / "trace").exists()


def test_the_hash_is_logged_before_anything_is_unpickled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "m.pkl"
    file.write_bytes(pickle.dumps(Trap(tmp_path / "trace"))[:-1])  # the end is missing: it fails after the trap
    with caplog.at_level(logging.INFO, logger="foretell"), pytest.raises(Setup, match="cannot be loaded"):
        load_backend(file, ModelOptions(trust=True))
    assert hashlib.sha256(file.read_bytes()).hexdigest() in caplog.text
    assert "m.pkl" in caplog.text


@pytest.mark.parametrize("compress", [0, 3])
def test_a_trusted_file_is_served(compress: int, tmp_path: Path) -> None:
    joblib.dump(logistic(), tmp_path / "m.joblib", compress=compress)
    backend = load_backend(tmp_path / "m.joblib", ModelOptions(trust=True))
    assert_equal(backend.forward(ROWS), wrap(logistic()).forward(ROWS))


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(LogisticRegression())[:50]])
def test_a_broken_file_is_named_with_its_cure(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.joblib").write_bytes(content)
    with pytest.raises(Setup, match=r"m\.joblib cannot be loaded .* save it again with joblib\.dump") as refusal:
        load_backend(tmp_path / "m.joblib", ModelOptions(trust=True))
    assert refusal.value.code == "broken_model"
