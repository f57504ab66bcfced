"""Fitted scikit-learn estimators: converted to ONNX and run like any ONNX model, or as they are where that is asked for."""

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import joblib
import numpy as np
import onnx
import skl2onnx
import sklearn
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.base import is_classifier

from foretell.backends import Backend, ModelOptions, load_backend, reading_model
from foretell.errors import Setup
from foretell.plugins import did_you_mean
from foretell.tensors import Array, Arrays, Datatype, Signature, TensorSpec

INPUT = "features"
_OPSETS = {"": 17, "ai.onnx.ml": 3}
_TENSORS = {Datatype.FP32: FloatTensorType, Datatype.FP64: DoubleTensorType}
_ONNX_TYPES = {
    Datatype.BOOL: TensorProto.BOOL,
    Datatype.INT64: TensorProto.INT64,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BYTES: TensorProto.STRING,
}
ABSOLUTE, RELATIVE = 1e-3, 1e-2
"""How far a conversion's numbers may lie from the estimator's own."""
_DEFAULTS = ModelOptions()
_log = logging.getLogger("foretell")


@dataclass(frozen=True)
class Answer:
    """One output of an estimator: its spec, and the method that gives it."""

    spec: TensorSpec
    method: str


class NativeModel:
    """An estimator run by scikit-learn itself. It takes and gives the same tensors as its ONNX form."""

    def __init__(self, estimator: Any, signature: Signature, answers: tuple[Answer, ...]) -> None:
        self.signature = signature
        self.facts = {
            "format": "scikit-learn",
            "runtime": f"scikit-learn {sklearn.__version__}",
            "estimator": type(estimator).__name__,
            "provider": "CPU",
            "elsewhere": "a pickle needs the same release of scikit-learn",
        }
        self._estimator = estimator
        self._answers = answers

    def forward(self, inputs: Arrays) -> Arrays:
        features = inputs[INPUT]
        return {
            answer.spec.name: _tensor(getattr(self._estimator, answer.method)(features), answer.spec)
            for answer in self._answers
        }

    def close(self) -> None:
        self._estimator = None


def load(source: object, options: ModelOptions) -> Backend:
    """The estimator in a pickle or joblib file, only with ``options.trust``; or a fitted estimator itself. See ``wrap``.

    Raises Setup ``untrusted_model``, ``broken_model`` or ``unknown_format``.
    """
    return _wrap(_unpickle(Path(source), options.trust), source, options) if isinstance(source, str) else wrap(source, options)


def wrap(estimator: object, options: ModelOptions = _DEFAULTS) -> Backend:
    """A fitted estimator as a backend.

    Input: ``features``, FP32 [number of features]; with ``options={"dtype": "FP64"}`` FP64, for estimators that compute in
    doubles and are served to more than seven digits (HistGradientBoosting, GaussianProcess). Outputs: a classifier gives
    ``label`` (INT64, BOOL, or BYTES for text classes) and, if it has ``predict_proba``, ``probabilities`` [classes]; all
    others give ``prediction``. It is converted to ONNX, or with ``native`` run by scikit-learn. Raises Setup.
    """
    return _wrap(estimator, f"the estimator {type(estimator).__name__}", options)


def to_onnx(source: str, options: ModelOptions) -> bytes:
    """The ONNX form of the estimator in a pickle or joblib file. Raises Setup as ``load``, and what the converter raises."""
    estimator = _unpickle(Path(source), options.trust)
    with _quiet():
        signature, _ = _examine(estimator, _dtype(source, options.options))
        return _convert(estimator, signature)


def _wrap(estimator: Any, name: object, options: ModelOptions) -> Backend:
    if not hasattr(estimator, "predict"):
        raise Setup(
            "unknown_format", f"{name} holds a {type(estimator).__name__}, not an estimator with predict(): name a fitted model"
        )
    dtype = _dtype(name, options.options)
    with _quiet(), reading_model(name, "fit it on one table of numbers before saving it, with this version of scikit-learn"):
        signature, answers = _examine(estimator, dtype)
    if options.native:
        return NativeModel(estimator, signature, answers)
    cure = (
        "set `native = true` for this model to run it by scikit-learn itself, or convert it yourself and serve the .onnx file"
    )
    with _quiet(), reading_model(f"{name}, converted to ONNX,", cure):
        converted = _load_converted(_convert(estimator, signature), options)
        compare(converted, NativeModel(estimator, signature, answers))
    return converted


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the converter's use of old interfaces, and the remark that our rows lack the column names of a fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _load_converted(model: bytes, options: ModelOptions) -> Backend:
    try:
        return load_backend(model, replace(options, options={}), backend="onnx")
    except Setup as error:
        if error.code != "broken_model":
            raise
        raise ValueError(error.message) from error  # the caller's cure is the one that helps


def _unpickle(path: Path, trust: bool) -> Any:
    if not trust:
        raise Setup(
            "untrusted_model",
            f"{path} is a pickle, and reading a pickle can run any code in it. If you know who made the file, make "
            f"ONNX of it: foretell convert {path} -o {path.stem}.onnx --trust; or load it as it is, with `trust = true` in "
            "[model] of pipeline.toml in a folder, by the name of that folder, or ModelOptions(trust=True)",
        )
    with reading_model(path, "save it again with joblib.dump, with the package versions that are installed here"):
        data = path.read_bytes()
        _log.info("unpickling %s, sha256 %s", path, hashlib.sha256(data).hexdigest())
        return joblib.load(io.BytesIO(data))


def _dtype(name: object, options: Mapping[str, object]) -> Datatype:
    for key in options:
        if key != "dtype":
            raise Setup("wrong_setting", f"{name}: a scikit-learn model has no option {key!r}{did_you_mean(key, ['dtype'])}")
    chosen = options.get("dtype", "FP32")
    if chosen not in set(_TENSORS):
        raise Setup("wrong_setting", f"{name}: option 'dtype' takes FP32 or FP64, got {chosen!r}")
    return Datatype(cast(str, chosen))


def _examine(estimator: Any, dtype: Datatype) -> tuple[Signature, tuple[Answer, ...]]:
    """What it takes and gives, learned from its answer to a few rows."""
    features = TensorSpec(INPUT, dtype, (int(estimator.n_features_in_),))
    methods = {"prediction": "predict"}
    if is_classifier(estimator):
        methods = {"label": "predict", "probabilities": "predict_proba"}
    trial = _trial_rows(features)
    given = {name: getattr(estimator, method)(trial) for name, method in methods.items() if hasattr(estimator, method)}
    answers = tuple(Answer(_spec(name, answer, dtype), methods[name]) for name, answer in given.items())
    return Signature((features,), tuple(answer.spec for answer in answers)), answers


def _spec(name: str, answer: Any, dtype: Datatype) -> TensorSpec:
    if isinstance(answer, list):
        raise ValueError(f"{name!r} comes in {len(answer)} parts: an estimator with several classifiers inside is not served")
    array: Array = np.asarray(answer)
    given = {"f": dtype, "b": Datatype.BOOL, "i": Datatype.INT64, "u": Datatype.INT64}.get(array.dtype.kind, Datatype.BYTES)
    return TensorSpec(name, given, array.shape[1:])


def _trial_rows(features: TensorSpec) -> Array:
    return np.random.default_rng(0).normal(size=(4, features.shape[0] or 0)).astype(features.dtype.numpy)


def compare(converted: Backend, native: NativeModel) -> None:
    """That the conversion answers as the estimator does: some kinds of estimators convert, but to something else.

    Raises ValueError naming the output.
    """
    trial = {INPUT: _trial_rows(native.signature.inputs[0])}
    got, expected = converted.forward(trial), native.forward(trial)
    for name, want in expected.items():
        rows = _decided(expected) if name == "label" else slice(None)
        same = got[name].shape == want.shape and (
            np.allclose(_as_floats(got[name]), _as_floats(want), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
            if want.dtype.kind == "f"
            else np.array_equal(got[name][rows], want[rows])
        )
        if not same:
            raise ValueError(f"output {name!r} differs from the estimator's own on trial rows")


def _decided(answers: Arrays) -> NDArray[np.bool_] | slice:
    """The rows whose label must agree: not those whose two best classes are as probable, where rounding decides."""
    probabilities = answers.get("probabilities")
    if probabilities is None or answers["label"].ndim != 1 or probabilities.ndim != 2 or probabilities.shape[1] < 2:
        return slice(None)
    ordered = np.sort(_as_floats(probabilities), axis=1)
    decided: NDArray[np.bool_] = ordered[:, -1] - ordered[:, -2] > ABSOLUTE + RELATIVE * ordered[:, -1]
    return decided


def _as_floats(array: Array) -> NDArray[np.float64]:
    return array.astype(np.float64)


def _tensor(answer: Any, spec: TensorSpec) -> Array:
    array: Array = np.asarray(answer)
    if spec.dtype is not Datatype.BYTES:
        return array.astype(spec.dtype.numpy, copy=False)
    texts = np.empty(array.shape, np.object_)
    texts.reshape(-1)[:] = [item if isinstance(item, bytes) else str(item).encode() for item in array.flat]
    return texts


def _convert(estimator: Any, signature: Signature) -> bytes:
    """The ONNX form, its outputs brought to the names, datatypes and shapes of the signature."""
    features = signature.inputs[0]
    model = skl2onnx.convert_sklearn(
        estimator,
        initial_types=[(INPUT, _TENSORS[features.dtype]([None, *features.shape]))],
        options={id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None,
        target_opset=_OPSETS,
    )
    model = compose.add_prefix(model, "sklearn_", rename_inputs=False)  # frees the names of the signature
    given = [output.name for output in model.graph.output]
    del model.graph.output[:]
    for name, spec in zip(given, signature.outputs, strict=False):
        _finish(model.graph, name, spec)
    onnx.checker.check_model(model)
    return cast(bytes, model.SerializeToString())


def _finish(graph: Any, name: str, spec: TensorSpec) -> None:
    """Nodes from one output of the conversion to the output that is declared."""
    rows, shape = f"{spec.name}_rows", f"{spec.name}_shape"
    graph.initializer.append(helper.make_tensor(shape, TensorProto.INT64, [1 + len(spec.shape)], [-1, *spec.shape]))
    graph.node.append(helper.make_node("Reshape", [name, shape], [rows]))
    onnx_type = _ONNX_TYPES[spec.dtype]
    last = ("Identity", {}) if spec.dtype is Datatype.BYTES else ("Cast", {"to": onnx_type})
    graph.node.append(helper.make_node(last[0], [rows], [spec.name], **last[1]))
    graph.output.append(helper.make_tensor_value_info(spec.name, onnx_type, [None, *spec.shape]))
