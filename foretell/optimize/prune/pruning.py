"""What is to be taken away, and what has been tried."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from foretell.evidence.case import Case, loaded
from foretell.evidence.metrics import Scores
from foretell.evidence.verdict import Layer
from foretell.optimize.prune.graph import Graph
from foretell.tensors import Array, Arrays

How = Literal["channels", "weights"]
MOST_ROWS = 2048
"""Rows that layers are fitted on."""


@dataclass(frozen=True)
class Pruning:
    """What to take away. ``how``: whole channels, filters and attention heads; or single weights, up to ``sparsity`` of them.

    ``steps``: how many sizes are tried. ``epochs`` of training after each of them, for which torch is needed.
    """

    how: How = "channels"
    sparsity: float = 0.9
    steps: int = 8
    epochs: int = 0
    seed: int = 0


DEFAULTS = Pruning()


@dataclass(frozen=True)
class Tried:
    """A candidate: its file, whether it keeps the budget on the rows of the search, how it came about, and what was trouble."""

    path: Path
    fits: bool
    how: Mapping[str, str] = field(default_factory=dict)
    trouble: tuple[Layer, ...] = ()


def told(pruning: Pruning, what: Mapping[str, str]) -> dict[str, str]:
    """How a candidate came about, for the report."""
    return {**what, "epochs of training": str(pruning.epochs), "seed": str(pruning.seed)}


def rows_to_fit(case: Case) -> Arrays:
    return {name: array[:MOST_ROWS] for name, array in case.fit.rows.items()}


def trained(case: Case, graph: Graph, pruning: Pruning, masks: Mapping[str, Array] | None = None) -> Graph:
    """The graph after the epochs that were asked for."""
    if not pruning.epochs:
        return graph
    from foretell.optimize.prune.training import train

    return train(graph, case, pruning.epochs, pruning.seed, masks)


def check_trainable(case: Case, graph: Graph, pruning: Pruning) -> None:
    """Raises Setup ``unsupported_graph`` before the work if a graph cannot be trained, and is to be."""
    if pruning.epochs:
        from foretell.optimize.prune.training import check_trainable as check

        check(graph, case)


def keeps_budget(case: Case, graph: Graph, path: Path, *, sparse: bool = False) -> bool:
    """Writes a candidate and scores it: whether its loss is allowed, with a standard error to spare for other rows."""
    path.parent.mkdir()
    graph.save(path, sparse=sparse)
    with loaded(path) as model:
        scores = case.score(model)
    return _cautious(scores) <= case.wanted.budget.allowed(scores.before)


def _cautious(scores: Scores) -> float:
    return scores.loss + max(0.0, scores.loss_interval[1] - scores.loss) / 2
