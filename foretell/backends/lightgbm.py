"""Gradient-boosted trees of LightGBM, from its own text files.

https://lightgbm.readthedocs.io/en/stable/pythonapi/lightgbm.Booster.html#lightgbm.Booster.save_model
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from foretell.backends import Backend, ModelOptions, reading_model
from foretell.classes import PREDICTION, class_answers, class_specs
from foretell.cpus import usable_cpus
from foretell.errors import Setup
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

INPUT = "features"
_CURE = "save it with booster.save_model('model.txt'), and copy all of it"
_CLASSIFIERS = ("binary", "multiclass", "multiclassova")


class LightgbmModel:
    """Not thread-safe: a booster's answers share its buffers."""

    def __init__(self, booster: Any, signature: Signature, classifies: bool, threads: int, facts: Mapping[str, str]) -> None:
        self.signature = signature
        self.facts = facts
        self._booster = booster
        self._classifies = classifies
        self._threads = threads

    def forward(self, inputs: Arrays) -> Arrays:
        answers = self._booster.predict(inputs[INPUT], num_threads=self._threads)
        return class_answers(answers) if self._classifies else {PREDICTION: answers}

    def close(self) -> None:
        self._booster = None


def load(source: str, options: ModelOptions) -> Backend:
    """The model in a ``.txt`` or ``.lgb`` file.

    Input: ``features`` FP64 [number of features], as its thresholds are, NaN for what is missing. Outputs: an objective
    ``binary`` or ``multiclass`` gives ``label`` (INT64) and ``probabilities`` [classes]; all others give ``prediction``
    (FP64). Raises Setup ``broken_model``.
    """
    path = Path(source)
    head = _read_head(path)
    objective = head.get("objective", "none").partition(" ")[0]
    with reading_model(path, _CURE):
        booster = lightgbm.Booster(model_file=source)
        threads = options.threads or usable_cpus()
        features = TensorSpec(INPUT, Datatype.FP64, (booster.num_feature(),))
        trial = booster.predict(np.zeros((1, booster.num_feature())), num_threads=threads)
    classifies = objective in _CLASSIFIERS
    if classifies:
        outputs = class_specs(2 if trial.ndim == 1 else trial.shape[1])
    else:
        outputs = (TensorSpec(PREDICTION, Datatype.FP64, trial.shape[1:]),)
    facts = {
        "format": "LightGBM text",
        "runtime": f"lightgbm {lightgbm.__version__}",
        "objective": objective,
        "trees": str(booster.num_trees()),
    }
    return LightgbmModel(booster, Signature((features,), outputs), classifies, threads, facts)


def _read_head(path: Path) -> dict[str, str]:
    """The lines ``key=value`` before the first tree. Raises Setup when the file is not whole: the runtime would not notice."""
    with reading_model(path, _CURE):
        lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0] != "tree":
        raise Setup("broken_model", f"{path} is not a model of LightGBM, whose first line is `tree`: {_CURE}")
    head = dict(_pairs(lines[: next((number for number, line in enumerate(lines) if line.startswith("Tree=")), len(lines))]))
    trees = sum(line.startswith("Tree=") for line in lines)
    if "end of trees" not in lines or trees != len(head.get("tree_sizes", "").split()):
        raise Setup("broken_model", f"{path} is cut off, or lacks some of its trees: {_CURE}")
    return head


def _pairs(lines: list[str]) -> list[tuple[str, str]]:
    return [(key, value) for key, equals, value in (line.partition("=") for line in lines) if equals]
