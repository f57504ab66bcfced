"""LightGBM's trees to ONNX, with thresholds in double precision. Splits by categories have no counterpart there."""

import re
from pathlib import Path

from foretell.backends import ModelOptions
from foretell.formats.lightgbm import read_lightgbm
from foretell.formats.tree_ensemble import Ensemble, Finish, to_onnx

LINKS = {
    "binary": "sigmoid",
    "multiclassova": "sigmoid",
    "cross_entropy": "sigmoid",
    "multiclass": "softmax",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
}
AS_IT_IS = ("", "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom")
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_ZERO_IS_MISSING, _NAN_IS_MISSING = 1, 2


def convert(source: str, target: Path, options: ModelOptions) -> None:
    read = read_lightgbm(Path(source).read_bytes())
    name, _, rest = read.objective.partition(" ")
    if (name not in LINKS and name not in AS_IT_IS) or "sqrt" in rest:
        raise ValueError(f"the objective {read.objective!r} is not converted")
    ensemble = Ensemble(read.features, read.outputs, "BRANCH_LEQ", "d")
    head, *blocks = read.text.partition("end of trees")[0].split("Tree=")
    scale = read.outputs / read.trees if "average_output" in head else 1.0
    for number, block in enumerate(blocks):
        lines = dict(line.partition("=")[::2] for line in block.splitlines()[1:])
        _add(ensemble, number, {key: value.split() for key, value in lines.items()}, scale)
    slope = re.search(r"sigmoid:(\S+)", rest)
    link = LINKS.get(name, "identity")
    classifies = name in ("binary", "multiclass", "multiclassova")
    factor = float(slope[1]) if slope and link == "sigmoid" else 1.0
    target.write_bytes(to_onnx(ensemble, Finish(link, factor=factor, classifies=classifies, wide=True)))


def _add(ensemble: Ensemble, number: int, tree: dict[str, list[str]], scale: float) -> None:
    """Leaves are numbered behind the splits: leaf 0 of a tree with three splits is node 3."""
    splits = len(tree.get("split_feature", ()))
    group = number % ensemble.groups
    for node in range(splits):
        threshold, kind = float(tree["threshold"][node]), int(tree["decision_type"][node])
        if kind & _CATEGORICAL:
            raise ValueError("it splits by categories, which ONNX has no node for")
        if kind >> 2 == _ZERO_IS_MISSING:
            raise ValueError("it takes zeros as missing values, which ONNX has no node for")
        missing = bool(kind & _DEFAULT_LEFT) if kind >> 2 == _NAN_IS_MISSING else threshold >= 0  # else NaN counts as 0
        left, right = (int(tree[side][node]) for side in ("left_child", "right_child"))
        children = tuple(splits - 1 - child if child < 0 else child for child in (left, right))
        ensemble.split(number, node, int(tree["split_feature"][node]), threshold, (children[0], children[1]), missing)
    for leaf, value in enumerate(tree["leaf_value"]):
        ensemble.leaf(number, splits + leaf, group, float(value) * scale)
