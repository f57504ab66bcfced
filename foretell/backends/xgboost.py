"""Gradient-boosted trees of XGBoost, from its own JSON or UBJSON files.

https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xgboost

from foretell.backends import Backend, ModelOptions, reading_model
from foretell.classes import PREDICTION, class_answers, class_specs
from foretell.cpus import usable_cpus
from foretell.errors import Setup
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

INPUT = "features"
_CURE = "save it with booster.save_model('model.json'), with a release of xgboost that is not newer than the one installed here"


class XgboostModel:
    """Thread-safe: prediction in place keeps no state."""

    thread_safe = True

    def __init__(self, booster: Any, signature: Signature, classifies: bool, facts: Mapping[str, str]) -> None:
        self.signature = signature
        self.facts = facts
        self._booster = booster
        self._classifies = classifies

    def forward(self, inputs: Arrays) -> Arrays:
        answers = self._booster.inplace_predict(inputs[INPUT], validate_features=False)
        return class_answers(answers) if self._classifies else {PREDICTION: answers}

    def close(self) -> None:
        self._booster = None


def load(source: str, options: ModelOptions) -> Backend:
    """The model in a ``.json`` or ``.ubj`` file.

    Input: ``features`` FP32 [number of features], NaN for what is missing. Outputs: an objective ``binary:logistic`` or
    ``multi:*`` gives ``label`` (INT64) and ``probabilities`` [classes]; all others give ``prediction``. Raises Setup
    ``broken_model``.
    """
    path = Path(source)
    _check_form(path)
    with reading_model(path, _CURE):
        booster = xgboost.Booster(model_file=source)
        threads = options.threads or usable_cpus()
        learner = orjson.loads(booster.save_config())["learner"]
        objective = str(learner["objective"]["name"])
        if objective == "multi:softmax":
            objective = "multi:softprob"  # the same trees, telling all classes
        booster.set_param({"nthread": threads, "objective": objective})
        features = TensorSpec(INPUT, Datatype.FP32, (booster.num_features(),))
        trial = booster.inplace_predict(np.zeros((1, booster.num_features()), np.float32), validate_features=False)
    classifies = objective in ("binary:logistic", "multi:softprob")
    if classifies:
        outputs = class_specs(2 if trial.ndim == 1 else trial.shape[1])
    else:
        outputs = (TensorSpec(PREDICTION, Datatype.FP32, trial.shape[1:]),)
    facts = {
        "format": f"XGBoost {path.suffix[1:].upper()}",
        "runtime": f"xgboost {xgboost.__version__}",
        "objective": objective,
        "trees": str(booster.num_boosted_rounds()),
    }
    return XgboostModel(booster, Signature((features,), outputs), classifies, facts)


def _check_form(path: Path) -> None:
    """That the file begins as its suffix says: the runtime's own reader asks for less."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head.lstrip().startswith(b"{") or (path.suffix.lower() == ".json" and b'"' not in head):
        raise Setup("broken_model", f"{path} is not a model of XGBoost, which begins with an object: {_CURE}")
