"""A student of gradient-boosted trees: each learns what the ones before it left over of all logits or values at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.optimize.distill.lesson import Floats, Lesson

LEAVES = 16
MOST_TREES = 400
SPLIT_BYTES, LEAF_BYTES, VALUE_BYTES = 34, 28, 13
"""About what a node of each kind, and one value of a leaf, take in an ONNX file."""


@dataclass(frozen=True)
class Forest:
    """``start`` [width] and the sum of what the trees of scikit-learn give times ``rate``."""

    start: Floats
    trees: Sequence[Any]
    rate: float

    def raw(self, features: Floats) -> Floats:
        found = np.tile(self.start, (len(features), 1))
        for tree in self.trees:
            found += self.rate * tree.predict(features.astype(np.float32)).reshape(len(features), -1)
        return found


def trees_for(width: int, size_bytes: int) -> int:
    """How many trees fit in a file of this size: 0 if none."""
    one = (LEAVES - 1) * SPLIT_BYTES + LEAVES * (LEAF_BYTES + VALUE_BYTES * width)
    return min(MOST_TREES, size_bytes // one)


def train(lesson: Lesson, count: int, seed: int, say: Callable[[float], None]) -> Forest:
    """Squared loss; logits of more than the usual size are cut, for one sure row is not to shape a tree."""
    from sklearn.tree import DecisionTreeRegressor

    features, wanted = lesson.features().astype(np.float32), lesson.wanted
    if lesson.form.classes:
        wanted = np.clip(wanted, -8, 8)
    start, rate = wanted.mean(axis=0), float(np.clip(10 / count, 0.05, 0.5))
    left, trees = wanted - start, []
    for at in range(count):
        tree = DecisionTreeRegressor(max_leaf_nodes=LEAVES, min_samples_leaf=3, random_state=seed + at)
        tree.fit(features, left)
        left = left - rate * tree.predict(features).reshape(left.shape)
        trees.append(tree)
        say(at / count)
    return Forest(start, trees, rate)
