"""The search for how many channels, filters and heads can go: the share of the cost that stays is halved, then closed in on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from foretell.errors import Setup
from foretell.evidence.case import Case
from foretell.evidence.progress import Progress
from foretell.evidence.verdict import Layer
from foretell.optimize import DISTILL
from foretell.optimize.prune.cut import find_groups
from foretell.optimize.prune.graph import Graph, read_graph
from foretell.optimize.prune.plan import Thinner, losses_of, make_thinner
from foretell.optimize.prune.pruning import Pruning, Tried, check_trainable, keeps_budget, rows_to_fit, told, trained
from foretell.optimize.prune.readers import find_readers, readers_of
from foretell.optimize.prune.ties import Group, Place

MOST_NAMED = 6


def search_channels(case: Case, source: Path, target: Path, pruning: Pruning, progress: Progress) -> Tried:
    """The thinnest candidate that keeps the budget, or the last that was tried. Raises Setup ``unsupported_graph``."""
    graph = read_graph(source)
    groups = _usable(graph)
    check_trainable(case, graph, pruning)
    fast = case.wanted.aim != "size"
    thinner = make_thinner(graph, groups, rows_to_fit(case), pruning.seed, fast, progress.say)
    low, high, best = 0.0, 1.0, None
    last: list[int] = []
    for step in range(pruning.steps):
        share = (low + high) / 2
        progress.say(f"keeping {share:.0%} of what can go", step / pruning.steps)
        counts = thinner.counts(share)
        if counts != last:
            tried = _try(case, thinner, counts, target.parent / str(step) / target.name, pruning)
            best = tried if tried.fits or best is None or not best.fits else best
        last = counts
        low, high = (low, share) if tried.fits else (share, high)
    assert best is not None
    return best


def _usable(graph: Graph) -> list[Group]:
    groups, fast = find_groups(graph)
    readers = find_readers(graph)
    usable = [group for group in groups if readers_of(readers, group)]
    if not usable:
        raise Setup("unsupported_graph", f"no channel of the model can be taken away: {_stops(graph, fast)}. {DISTILL}")
    return usable


def _stops(graph: Graph, fast: Mapping[Place, str]) -> str:
    """What stands in the way, for the largest weights first."""
    named = {name: why for (name, _), why in fast.items() if not why.startswith("it is")}
    largest = sorted(named, key=lambda name: -graph.weights[name].size)[:MOST_NAMED]
    if not largest:
        kinds = sorted({node.op_type for node in graph.nodes})
        return f"it has no layers behind one another that could be cut; its operators are {', '.join(kinds)}"
    return "; ".join(f"{name}: {named[name]}" for name in largest)


def _try(case: Case, thinner: Thinner, counts: Sequence[int], path: Path, pruning: Pruning) -> Tried:
    graph = trained(case, thinner.thin(counts), pruning)
    fits = keeps_budget(case, graph, path)
    kept = [f"{plan.group.name} {plan.group.units} -> {count}" for plan, count in zip(thinner.plans, counts, strict=True)]
    losses = losses_of(thinner, counts)
    trouble = [
        Layer(plan.group.name, f"{plan.group.units} channels", float(loss))
        for plan, loss in zip(thinner.plans, losses, strict=True)
    ]
    return Tried(path, fits, told(pruning, {"channels": ", ".join(kept)}), tuple(trouble))
