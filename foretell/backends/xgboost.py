"""Gradient-boosted trees of XGBoost, from its own JSON or UBJSON files.

https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from foretell.backends import Backend, ModelOptions, reading_model
from foretell.classes import PREDICTION, class_answers, class_specs
from foretell.cpus import usable_cpus
from foretell.errors import Unavailable
from foretell.formats.xgboost import XgboostFile, read_xgboost
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

INPUT = "features"
_CATEGORIES = re.compile(rb'"categories":\[\d')
_CURE = "save it with booster.save_model('model.json'), with a release of xgboost that is not newer than the one installed here"


class XgboostModel:
    """Thread-safe: prediction in place keeps no state."""

    thread_safe = True

    def __init__(self, booster: Any, signature: Signature, classifies: bool, rounds: int, facts: Mapping[str, str]) -> None:
        self.signature = signature
        self.facts = facts
        self._booster = booster
        self._classifies = classifies
        self._rounds = (0, rounds)

    def forward(self, inputs: Arrays) -> Arrays:
        if self._booster is None:
            raise Unavailable("not_ready", "the model is closed: load it again")
        answers = self._booster.inplace_predict(inputs[INPUT], iteration_range=self._rounds, validate_features=False)
        return class_answers(answers) if self._classifies else {PREDICTION: answers}

    def close(self) -> None:
        self._booster = None


def load(source: str, options: ModelOptions) -> Backend:
    """The model in a ``.json`` or ``.ubj`` file.

    Input: ``features`` FP32 [number of features], NaN for what is missing; a categorical feature is the category's number.
    Outputs: an objective ``binary:logistic`` or ``multi:*`` gives ``label`` (INT64, counted from 0) and ``probabilities``
    [classes]; all others give ``prediction`` (FP32). A model that was stopped early answers by its best round, as in
    scikit-learn's interface. The file is read by us, and the runtime gets what was checked: on damaged files it would crash.
    Raises Setup ``broken_model``.
    """
    path = Path(source)
    major, minor = xgboost.__version__.split(".")[:2]
    with reading_model(path, _CURE):
        data = path.read_bytes()
        read = read_xgboost(data, binary=path.suffix.lower() == ".ubj", newest=(int(major), int(minor)))
        booster = xgboost.Booster(model_file=bytearray(read.text))
        threads = options.threads or usable_cpus()
        objective = "multi:softprob" if read.objective == "multi:softmax" else read.objective  # the same, telling all classes
        booster.set_param({"nthread": threads, "objective": objective})
        trial = booster.inplace_predict(np.zeros((1, read.features), np.float32), validate_features=False)
    classifies = objective in ("binary:logistic", "multi:softprob")
    plain = (TensorSpec(PREDICTION, Datatype.FP32, trial.shape[1:]),)
    outputs = class_specs(2 if trial.ndim == 1 else trial.shape[1]) if classifies else plain
    features = TensorSpec(INPUT, Datatype.FP32, (read.features,))
    facts = {**_facts(read, len(data), threads), "format": f"XGBoost {'UBJSON' if path.suffix.lower() == '.ubj' else 'JSON'}"}
    return XgboostModel(booster, Signature((features,), outputs), classifies, read.best or read.rounds, facts)


def _facts(read: XgboostFile, size: int, threads: int) -> dict[str, str]:
    rounds = f"{read.rounds:,}" if read.best is None else f"{read.best:,} of {read.rounds:,}, the best by early stopping"
    return {
        "format": "",
        "runtime": f"xgboost {xgboost.__version__}",
        "written by": f"xgboost {read.version}",
        "objective": read.objective,
        "booster": read.booster,
        "size": f"{size:,} bytes",
        "rounds": rounds,
        "trees": f"{read.trees:,}",
        "parameters": f"{2 * read.leaves - read.trees:,} (leaves and thresholds)",
        "provider": "CPU",
        "threads": str(threads),
        **({"elsewhere": "ONNX has no node for its splits by categories"} if _CATEGORIES.search(read.text) else {}),
    }
