"""Gradient-boosted trees of LightGBM, from its own text files.

https://lightgbm.readthedocs.io/en/stable/pythonapi/lightgbm.Booster.html#lightgbm.Booster.save_model
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from foretell.backends import Backend, ModelOptions, reading_model
from foretell.classes import PREDICTION, class_answers, class_specs
from foretell.cpus import usable_cpus
from foretell.errors import Setup, Unavailable
from foretell.formats.lightgbm import LightgbmFile, read_lightgbm
from foretell.tensors import Array, Arrays, Datatype, Signature, TensorSpec

INPUT = "features"
_CATEGORIES = re.compile(r"^num_cat=[1-9]", re.MULTILINE)
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
        if self._booster is None:
            raise Unavailable("not_ready", "the model is closed: load it again")
        answers = self._booster.predict(inputs[INPUT], num_threads=self._threads)
        return class_answers(answers) if self._classifies else {PREDICTION: answers}

    def close(self) -> None:
        self._booster = None


def load(source: str, options: ModelOptions) -> Backend:
    """The model in a ``.txt`` or ``.lgb`` file.

    Input: ``features`` FP64 [number of features], as its thresholds are, NaN for what is missing; a categorical feature is the
    category's number. Outputs: an objective ``binary`` or ``multiclass`` gives ``label`` (INT64, counted from 0) and
    ``probabilities`` [classes]; all others give ``prediction`` (FP64). The file is read by us, and the runtime gets what was
    checked: on damaged files it would crash. Raises Setup ``broken_model``.
    """
    path = Path(source)
    with reading_model(path, _CURE):
        data = path.read_bytes()
        read = read_lightgbm(data)
        booster = lightgbm.Booster(model_str=read.text)
        threads = options.threads or usable_cpus()
        trial: Array = np.asarray(booster.predict(np.zeros((1, read.features)), num_threads=threads))
    objective = read.objective.partition(" ")[0]
    classifies = objective in _CLASSIFIERS
    shape = trial.shape[1:]
    if shape != ((read.outputs,) if read.outputs > 1 else ()):
        raise Setup("broken_model", f"{path} answers {list(shape)} for a row, but has {read.outputs} classes: {_CURE}")
    plain = (TensorSpec(PREDICTION, Datatype.FP64, shape),)
    outputs = class_specs(max(2, read.outputs)) if classifies else plain
    features = TensorSpec(INPUT, Datatype.FP64, (read.features,))
    return LightgbmModel(booster, Signature((features,), outputs), classifies, threads, _facts(read, len(data), threads))


def _facts(read: LightgbmFile, size: int, threads: int) -> dict[str, str]:
    return {
        "format": "LightGBM text",
        "runtime": f"lightgbm {lightgbm.__version__}",
        "objective": read.objective or "none",
        "size": f"{size:,} bytes",
        "trees": f"{read.trees:,}",
        "parameters": f"{2 * read.leaves - read.trees:,} (leaves and thresholds)",
        "provider": "CPU",
        "threads": str(threads),
        **({"elsewhere": "ONNX has no node for its splits by categories"} if _CATEGORIES.search(read.text) else {}),
    }
