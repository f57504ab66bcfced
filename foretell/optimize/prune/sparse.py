"""The search for how many single weights can be zero: the sparsity rises on a schedule, until the budget would be passed."""

from pathlib import Path

from foretell.errors import Setup
from foretell.evidence.case import Case
from foretell.evidence.progress import Progress
from foretell.evidence.verdict import Layer
from foretell.optimize import DISTILL
from foretell.optimize.prune.graph import read_graph
from foretell.optimize.prune.magnitude import choose_masks, mask, schedule, sparse_weights
from foretell.optimize.prune.pruning import Pruning, Tried, check_trainable, keeps_budget, rows_to_fit, told, trained
from foretell.optimize.prune.readers import find_readers, sample


def search_weights(case: Case, source: Path, target: Path, pruning: Pruning, progress: Progress) -> Tried:
    """The sparsest candidate on the schedule that keeps the budget, or the first. Raises Setup ``unsupported_graph``."""
    graph = read_graph(source)
    if not sparse_weights(graph):
        kinds = ", ".join(sorted({node.op_type for node in graph.nodes}))
        raise Setup(
            "unsupported_graph",
            f"the model has no matrix or kernel whose weights could be zero, it has {kinds}: {DISTILL}",
        )
    check_trainable(case, graph, pruning)
    rows = rows_to_fit(case)
    progress.say("looking at what the layers give")
    wanted = sample(graph, find_readers(graph), rows, pruning.seed, answers=True)
    best = None
    for step, sparsity in enumerate(schedule(pruning.sparsity, pruning.steps)):
        progress.say(f"{sparsity:.0%} of the weights at zero", step / pruning.steps)
        masks = choose_masks(graph, sparsity)
        made = trained(case, mask(graph, masks, rows, wanted, pruning.seed), pruning, masks)
        path = target.parent / str(step) / target.name
        fits = keeps_budget(case, made, path, sparse=True)
        if best is None or fits:
            gone = [Layer(name, "weights", float(1 - stays.mean())) for name, stays in masks.items()]
            best = Tried(path, fits, told(pruning, {"sparsity": f"{sparsity:.3f}"}), tuple(gone))
        if not fits:
            break
    assert best is not None
    return best
