"""Reads LightGBM's text files, and writes them anew from what was checked: the runtime itself crashes on damaged ones.

The form is that of https://github.com/microsoft/LightGBM/blob/master/src/io/gbdt_model_text.cpp and ``Tree::ToString``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_FEATURES = 10_000_000
_OBJECTIVE = re.compile(r"[a-z_0-9]+(?: (?:sqrt|[a-z_]+:[-+.e0-9]+))*")
_NUMBER = re.compile(r"-?\d{1,18}")
_WORDS = 2**32


@dataclass(frozen=True)
class LightgbmFile:
    """A checked model: ``text`` is for the runtime. ``outputs`` is the number of classes, or 1."""

    text: str
    objective: str
    features: int
    outputs: int
    trees: int
    leaves: int


def read_lightgbm(data: bytes) -> LightgbmFile:
    """Checks all that the runtime uses of a file to predict. Raises ValueError, saying what is wrong in which tree."""
    head, blocks = _split(data.decode("utf-8"))
    features = _whole(head, "max_feature_idx", 0, MOST_FEATURES) + 1
    classes = _whole(head, "num_class", 1, 100_000)
    each = _whole(head, "num_tree_per_iteration", 1, 100_000)
    objective = head.get("objective", "")
    if objective and not _OBJECTIVE.fullmatch(objective):
        raise ValueError("its objective is no name with numbers")
    told = re.search(r"num_class:(\S+)", objective)
    if each != classes or (told and told[1] != str(classes)) or (objective.startswith("multiclass") and not told):
        raise ValueError(f"it has {classes} classes, but {each} trees for each round")
    if not blocks or len(blocks) % each:
        raise ValueError(f"it has {len(blocks)} trees, where {each} come together")
    trees = [_tree(number, block, features) for number, block in enumerate(blocks)]
    lines = ["tree", "version=v4", f"num_class={classes}", f"num_tree_per_iteration={each}", "label_index=0"]
    lines += [f"max_feature_idx={features - 1}", *([f"objective={objective}"] if objective else [])]
    lines += ["average_output"] if "average_output" in head else []
    lines += [f"feature_names={' '.join(f'f{i}' for i in range(features))}", f"feature_infos={' '.join(['none'] * features)}"]
    text = "\n".join([*lines, "", *(tree for tree, _ in trees), "end of trees", "", ""])
    return LightgbmFile(text, objective, features, classes, len(blocks), sum(leaves for _, leaves in trees))


def _split(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The lines before the first tree, and those of each tree, up to the line that ends them."""
    lines, end, _ = text.partition("\nend of trees")
    if not text.startswith(("tree\n", "tree\r\n")):
        raise ValueError("its first line is not `tree`")
    parts: list[dict[str, str]] = [{}]
    for line in lines.splitlines():
        key, _, value = line.partition("=")
        if key == "Tree":
            if value != str(len(parts) - 1):
                raise ValueError(f"tree {value[:20]!r} stands where tree {len(parts) - 1} should")
            parts.append({})
        elif key in parts[-1]:
            raise ValueError(f"{key[:40]!r} stands there twice")
        elif key:
            parts[-1][key] = value
    told = len(parts[0].get("tree_sizes", "").split())
    if not end or told != len(parts) - 1:
        raise ValueError(f"it is cut off: it has {len(parts) - 1} of {told} trees")
    return parts[0], parts[1:]


def _tree(number: int, block: Mapping[str, str], features: int) -> tuple[str, int]:
    """The checked lines of one tree, and how many leaves it has."""
    try:
        leaves = _whole(block, "num_leaves", 1, 2**24)
        if block.get("is_linear", "0") != "0":
            raise ValueError("it has linear models in its leaves, which are not served: train it without linear_tree")
        values = _floats(block, "leaf_value", leaves)
        lines = [f"Tree={number}", f"num_leaves={leaves}"]
        lines += list(_splits(block, leaves, features)) if leaves > 1 else ["num_cat=0"]
        lines += [f"leaf_value={_join(values.tolist())}", "shrinkage=1", "", ""]
    except ValueError as error:
        raise ValueError(f"tree {number}: {error}") from None
    return "\n".join(lines), leaves


def _splits(block: Mapping[str, str], leaves: int, features: int) -> Iterator[str]:
    count = leaves - 1
    sorts = _whole(block, "num_cat", 0, count)
    kinds = _ints(block, "decision_type", count, 0, 12)
    thresholds = _floats(block, "threshold", count)
    left, right = (_ints(block, key, count, -leaves, count) for key in ("left_child", "right_child"))
    check_tree(left.tolist(), right.tolist(), leaves)
    yield f"num_cat={sorts}"
    yield f"split_feature={_join(_ints(block, 'split_feature', count, 0, features).tolist())}"
    yield f"threshold={_join(thresholds.tolist())}"
    yield f"decision_type={_join(kinds.tolist())}"
    yield f"left_child={_join(left.tolist())}"
    yield f"right_child={_join(right.tolist())}"
    named = thresholds[kinds & 1 == 1]
    if sorts == 0 and named.size:
        raise ValueError("it splits by categories, but lists none")
    if not np.isin(named, np.arange(sorts)).all():
        raise ValueError("a split names categories that are not there")
    if sorts:
        bounds = _ints(block, "cat_boundaries", sorts + 1, 0, 2**28)
        if bounds[0] != 0 or (np.diff(bounds) < 1).any():
            raise ValueError("its cat_boundaries do not rise from 0")
        yield f"cat_boundaries={_join(bounds.tolist())}"
        yield f"cat_threshold={_join(_ints(block, 'cat_threshold', int(bounds[-1]), 0, _WORDS).tolist())}"


def check_tree(left: Sequence[int], right: Sequence[int], leaves: int) -> None:
    """That every split and every leaf (``-1 - number``) is reached once from split 0. Raises ValueError."""
    splits, ends, todo = set[int](), set[int](), [0]
    while todo:
        at = todo.pop()
        if at < 0:
            seen, at = ends, -1 - at
        else:
            seen = splits
            if at not in seen:
                todo += [left[at], right[at]]
        if at in seen:
            raise ValueError("its splits are no tree: one is reached twice")
        seen.add(at)
    if len(splits) != len(left) or len(ends) != leaves:
        raise ValueError("its splits are no tree: some are not reached")


def _whole(block: Mapping[str, str], key: str, least: int, most: int) -> int:
    text = block.get(key, "")
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise ValueError(f"{key} is {text[:40]!r}, not a whole number from {least} to {most}")
    return int(text)


def _ints(block: Mapping[str, str], key: str, count: int, least: int, below: int) -> NDArray[np.int64]:
    words = _words(block, key, count)
    if not all(map(_NUMBER.fullmatch, words)):
        raise ValueError(f"{key} has what is no whole number")
    numbers = np.array([int(word) for word in words], np.int64)
    if numbers.size and (numbers.min() < least or numbers.max() >= below):
        raise ValueError(f"{key} has a number that is not from {least} to {below - 1}")
    return numbers


def _floats(block: Mapping[str, str], key: str, count: int) -> NDArray[np.float64]:
    try:
        numbers = np.array([float(word) for word in _words(block, key, count)], np.float64)
    except ValueError:
        raise ValueError(f"{key} has what is no number") from None
    if not np.isfinite(numbers).all():
        raise ValueError(f"{key} has a number that is not finite")
    return numbers


def _words(block: Mapping[str, str], key: str, count: int) -> list[str]:
    words = block.get(key, "").split()
    if len(words) != count:
        raise ValueError(f"{key} has {len(words)} numbers, not {count}")
    return words


def _join(numbers: Sequence[Any]) -> str:
    return " ".join(map(repr, numbers))
