"""Reads XGBoost's JSON and UBJSON files, and writes them anew from what was checked: the runtime crashes on damaged ones.

The form is that of https://github.com/dmlc/xgboost/blob/master/doc/model.schema.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from foretell.formats.ubjson import read_ubjson

MOST_FEATURES = 10_000_000
MOST_CATEGORY = 2**24
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_SCORES = re.compile(rf"\[?{_NUMBER}(?:,{_NUMBER})*\]?")
_NAME = re.compile(r"[a-z0-9]+(?:[:_][a-z0-9]+)*")
_NO_PARENT = _DELETED = 2**31 - 1
"""What stands for the root's parent; and with default_left 1 as the feature of a node that was pruned."""
_FLOATS = ("base_weights", "split_conditions", "sum_hessian", "loss_changes")


@dataclass(frozen=True)
class XgboostFile:
    """A checked model: ``text`` is JSON for the runtime. ``best`` is the number of rounds up to the best one, if it says so."""

    text: bytes
    booster: str
    objective: str
    features: int
    groups: int
    rounds: int
    best: int | None
    trees: int
    leaves: int
    version: str


def read_xgboost(data: bytes, *, binary: bool, newest: tuple[int, int]) -> XgboostFile:
    """Checks all that the runtime uses of a file to predict. Raises ValueError, saying what is wrong in which tree.

    ``newest`` is the runtime's own version: files of later ones are not for it.
    """
    whole = read_ubjson(data) if binary else orjson.loads(data)
    version = [int(part) for part in _ints(_at(whole, "version"), 3, 0, 1000)]
    if tuple(version[:2]) > newest:
        raise ValueError(f"it is of release {version[0]}.{version[1]}, newer than {newest[0]}.{newest[1]}, which is installed")
    learner = _at(whole, "learner")
    param = _param(_at(learner, "learner_model_param"))
    features, groups = param["num_feature"], max(param["num_class"], 1) * param["num_target"]
    objective = _objective(_at(learner, "objective"), param["num_class"])
    outer = _at(learner, "gradient_booster")
    name = _at(outer, "name")
    if name not in ("gbtree", "dart"):
        raise ValueError(f"its booster is {str(name)[:40]!r}, served are gbtree and dart")
    inner, leaves = _gbtree(_at(outer, "gbtree") if name == "dart" else outer, features, groups)
    count = len(inner["model"]["trees"])
    booster = inner
    if name == "dart":
        drops = _floats(_at(outer, "weight_drop"), count)
        booster = {"name": "dart", "gbtree": inner, "weight_drop": drops}
    written = {
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": booster,
            "learner_model_param": {key: str(value) for key, value in param.items()},
            "objective": objective,
        },
        "version": version,
    }
    rounds = len(inner["model"]["iteration_indptr"]) - 1
    best = _best(learner.get("attributes"), rounds)
    text = orjson.dumps(written, option=orjson.OPT_SERIALIZE_NUMPY)
    told = ".".join(map(str, version))
    return XgboostFile(text, name, objective["name"], features, groups, rounds, best, count, leaves, told)


def _param(told: Mapping[str, Any]) -> dict[str, Any]:
    scores = str(told.get("base_score", "0.5"))
    if not _SCORES.fullmatch(scores):
        raise ValueError("base_score is no number")
    features, classes = _number(told, "num_feature", 1, MOST_FEATURES), _number(told, "num_class", 0, 100_000)
    targets = _number(told, "num_target", 1, 100_000) if "num_target" in told else 1
    count = scores.count(",") + 1
    if count not in (1, max(classes, 1) * targets):
        raise ValueError(f"it has {count} base scores")
    if classes > 1 and targets > 1:
        raise ValueError("it has several classes and several targets")
    boosts = _number(told, "boost_from_average", 0, 1) if "boost_from_average" in told else 1
    named = {"num_class": classes, "num_feature": features, "num_target": targets, "boost_from_average": boosts}
    return {"base_score": scores, **named}


def _objective(told: Any, classes: int) -> dict[str, Any]:
    """The name, and the tables of plain texts beside it."""
    name = _at(told, "name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("its objective has no name")
    tables = {key: table for key, table in told.items() if isinstance(table, dict)}
    for table in tables.values():
        if not all(isinstance(value, str) and len(value) < 1000 for value in table.values()):
            raise ValueError("its objective has what is no text")
    told_classes = tables.get("softmax_multiclass_param", {}).get("num_class", str(classes))
    if told_classes != str(classes) or (name.startswith("multi:") and classes < 2):
        raise ValueError("its objective has another number of classes than its trees")
    return {"name": name, **tables}


def _gbtree(told: Any, features: int, groups: int) -> tuple[dict[str, Any], int]:
    """The trees, and how many leaves they have."""
    model = _at(told, "model")
    trees = _at(model, "trees")
    if not isinstance(trees, list) or not trees:
        raise ValueError("it has no trees")
    written, leaves = [], 0
    for number, tree in enumerate(trees):
        try:
            checked, count = _tree(tree, features)
        except ValueError as error:
            raise ValueError(f"tree {number}: {error}") from None
        written.append({**checked, "id": number})
        leaves += count
    param = _at(model, "gbtree_model_param")
    parallel = _number(param, "num_parallel_tree", 1, len(trees)) if "num_parallel_tree" in param else 1
    if _number(param, "num_trees", 1, 2**31) != len(trees):
        raise ValueError(f"it has {len(trees)} trees, but says {param['num_trees']}")
    info = _ints(_at(model, "tree_info"), len(trees), 0, groups)
    each = groups * parallel
    starts = model.get("iteration_indptr")
    if starts is None:
        starts = np.arange(0, len(trees) + 1, each)
    starts = _ints(starts, None, 0, len(trees) + 1)
    if not starts.size or starts[0] != 0 or starts[-1] != len(trees) or (np.diff(starts) < 1).any():
        raise ValueError("its rounds do not add up to its trees")
    inner = {
        "cats": {"enc": [], "feature_segments": [], "sorted_idx": []},
        "gbtree_model_param": {"num_parallel_tree": str(parallel), "num_trees": str(len(trees))},
        "iteration_indptr": starts.tolist(),
        "tree_info": info.tolist(),
        "trees": written,
    }
    return {"model": inner, "name": "gbtree"}, leaves


def _tree(tree: Any, features: int) -> tuple[dict[str, Any], int]:
    """The checked fields of one tree, and how many leaves it has."""
    param = _at(tree, "tree_param")
    count = _number(param, "num_nodes", 1, 2**28)
    if _number(param, "size_leaf_vector", 0, 2**20) > 1:
        raise ValueError('its leaves are vectors, which are not served: train it with multi_strategy="one_output_per_tree"')
    left, right = (_ints(_at(tree, f"{side}_children"), count, -1, count) for side in ("left", "right"))
    parents, reached = _walk(left.tolist(), right.tolist())
    inside = reached & (left >= 0)
    indices = np.where(inside, _ints(_at(tree, "split_indices"), count, 0, 2**32), 0)
    if indices.max() >= features:
        raise ValueError(f"it splits by feature {indices.max()}, where there are {features}")
    kinds = _ints(tree.get("split_type", np.zeros(count, np.int64)), count, 0, 2)
    written: dict[str, Any] = {name: _floats(_at(tree, name), count) for name in _FLOATS}
    written |= {"left_children": left.tolist(), "right_children": right.tolist(), "parents": parents}
    defaults = _ints(_at(tree, "default_left"), count, 0, 2)
    written |= {"split_indices": np.where(reached, indices, _DELETED).tolist(), "split_type": kinds.tolist()}
    written["default_left"] = np.where(reached, defaults, 1).tolist()
    written |= _categories(tree, np.flatnonzero(inside & (kinds == 1)), kinds)
    written["tree_param"] = {
        "num_deleted": str(int((~reached).sum())),
        "num_feature": str(features),
        "num_nodes": str(count),
        "size_leaf_vector": "1",
    }
    return written, int((reached & (left < 0)).sum())


def _walk(left: Sequence[int], right: Sequence[int]) -> tuple[list[int], NDArray[np.bool_]]:
    """The parent of each node, and whether it is reached. Raises ValueError for what is no tree."""
    parents, reached, todo = [0] * len(left), np.zeros(len(left), np.bool_), [0]
    parents[0] = _NO_PARENT
    while todo:
        node = todo.pop()
        if reached[node]:
            raise ValueError("its nodes are no tree: one is reached twice")
        reached[node] = True
        if (left[node] < 0) != (right[node] < 0):
            raise ValueError("a node has one child")
        if left[node] >= 0:
            todo += [left[node], right[node]]
            parents[left[node]] = parents[right[node]] = node
    return parents, reached


def _categories(tree: Mapping[str, Any], wanted: NDArray[np.intp], kinds: NDArray[np.int64]) -> dict[str, list[int]]:
    values = _ints(tree.get("categories", ()), None, 0, MOST_CATEGORY)
    nodes = _ints(tree.get("categories_nodes", ()), None, 0, len(kinds))
    starts = _ints(tree.get("categories_segments", ()), len(nodes), 0, len(values) + 1)
    sizes = _ints(tree.get("categories_sizes", ()), len(nodes), 0, len(values) + 1)
    if not np.array_equal(nodes, np.flatnonzero(kinds == 1)) or not np.isin(wanted, nodes).all():
        raise ValueError("its splits by categories are not those that it lists")
    if (starts + sizes > len(values)).any() or (starts != np.cumsum(sizes) - sizes).any() or (sizes < 1).any():
        raise ValueError("its categories do not fit its splits")
    names = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
    return {name: array.tolist() for name, array in zip(names, (values, nodes, starts, sizes), strict=True)}


def _best(attributes: Any, rounds: int) -> int | None:
    """The rounds up to the one that early stopping found to be the best, as scikit-learn's interface uses them."""
    told = attributes.get("best_iteration") if isinstance(attributes, dict) else None
    if told is None:
        return None
    best = _number(attributes, "best_iteration", 0, max(0, rounds - 1))
    return best + 1


def _at(told: Any, key: str) -> Any:
    if not isinstance(told, dict) or key not in told:
        raise ValueError(f"it has no {key}")
    return told[key]


def _number(told: Any, key: str, least: int, most: int) -> int:
    text = str(_at(told, key))
    if not re.fullmatch(r"-?\d{1,18}", text) or not least <= int(text) <= most:
        raise ValueError(f"{key} is {text[:40]!r}, not a whole number from {least} to {most}")
    return int(text)


def _ints(told: Any, count: int | None, least: int, below: int) -> NDArray[np.int64]:
    array = _array(told, count)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.dtype.kind not in "biu":
        raise ValueError("it has what is no whole number")
    if array.min() < least or array.max() >= below:
        raise ValueError(f"it has a number that is not from {least} to {below - 1}")
    return array.astype(np.int64)


def _floats(told: Any, count: int) -> NDArray[np.float32]:
    array = _array(told, count)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError("it has what is no finite number")
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    if not np.isfinite(floats).all():
        raise ValueError("it has a number that is too large")
    return floats


def _array(told: Any, count: int | None) -> NDArray[Any]:
    try:
        array = np.asarray(told)
    except (ValueError, OverflowError):
        raise ValueError("it has what is no list of numbers") from None
    if array.ndim != 1 or (count is not None and len(array) != count):
        raise ValueError(f"it has {array.shape} numbers, not {count}")
    return array
