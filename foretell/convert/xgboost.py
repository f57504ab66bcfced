"""XGBoost's trees to ONNX. Splits by categories have no counterpart there."""

import math
from pathlib import Path
from typing import Any

import orjson

from foretell.backends import ModelOptions
from foretell.formats.tree_ensemble import Ensemble, Finish, to_onnx
from foretell.formats.xgboost import read_xgboost

LINKS = {
    "binary:logistic": "sigmoid",
    "reg:logistic": "sigmoid",
    "multi:softmax": "softmax",
    "multi:softprob": "softmax",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "survival:cox": "exp",
}
AS_IT_IS = ("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror", "binary:logitraw")
NEWEST = (10**6, 0)


def convert(source: str, target: Path, options: ModelOptions) -> None:
    read = read_xgboost(Path(source).read_bytes(), binary=source.lower().endswith(".ubj"), newest=NEWEST)
    if read.objective not in LINKS and read.objective not in AS_IT_IS and not read.objective.startswith("rank:"):
        raise ValueError(f"the objective {read.objective!r} is not converted")
    learner = orjson.loads(read.text)["learner"]
    outer = learner["gradient_booster"]
    model = outer.get("gbtree", outer)["model"]
    last = model["iteration_indptr"][read.best or read.rounds]
    ensemble = Ensemble(read.features, read.groups, "BRANCH_LT")
    for number, tree in enumerate(model["trees"][:last]):
        _add(ensemble, tree, number, model["tree_info"][number], outer.get("weight_drop", [1.0] * last)[number])
    link = LINKS.get(read.objective, "identity")
    scores = [float(score) for score in learner["learner_model_param"]["base_score"].strip("[]").split(",")]
    base = [_margin(score, link) for score in scores]
    finish = Finish(link, base, classifies=read.objective in ("binary:logistic", "multi:softmax", "multi:softprob"))
    target.write_bytes(to_onnx(ensemble, finish))


def _add(ensemble: Ensemble, tree: dict[str, Any], number: int, group: int, weight: float) -> None:
    todo = [0]
    while todo:
        node = todo.pop()
        left, right = tree["left_children"][node], tree["right_children"][node]
        value = tree["split_conditions"][node]
        if left < 0:
            ensemble.leaf(number, node, group, value * weight)
            continue
        if tree["split_type"][node]:
            raise ValueError("it splits by categories, which ONNX has no node for")
        ensemble.split(number, node, tree["split_indices"][node], value, (left, right), bool(tree["default_left"][node]))
        todo += [left, right]


def _margin(score: float, link: str) -> float:
    """What a base score is before the link: the file has it behind it."""
    if link == "sigmoid":
        return math.log(score / (1 - score))
    return math.log(score) if link == "exp" else score
