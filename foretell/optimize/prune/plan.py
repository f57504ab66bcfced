"""How many channels each layer keeps: those go that cost the answers least and save most, for a share of all cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from foretell.optimize.prune.cut import cut
from foretell.optimize.prune.fit import Order, order, refit
from foretell.optimize.prune.graph import Graph
from foretell.optimize.prune.readers import Floats, Reader, find_readers, readers_of, sample
from foretell.optimize.prune.ties import Group, Indices
from foretell.tensors import Array, Arrays

LEAST_LOSS = 1e-6
WIDE = 32
"""Layers of so many units keep a multiple of ``LANES`` where speed is wanted: the kernels run on whole vectors."""
LANES = 8


@dataclass(frozen=True)
class Plan:
    """One group: the layers that read it, the order in which its units go, what one of them costs, of the model's whole cost.

    ``weight``: how much a loss of its readers tells on the model's answers. ``step``: units are kept in multiples of it.
    """

    group: Group
    readers: tuple[Reader, ...]
    order: Order
    cost: float
    step: int = 1
    weight: float = 1.0

    def counts(self) -> Indices:
        """How many units may be kept."""
        units = self.group.units
        return np.unique(np.append(np.arange(self.step, units, self.step), units))

    def best(self, price: float) -> int:
        """The count with the least loss at a price of cost."""
        counts = self.counts()
        losses = np.array([self.order.loss(count) for count in counts.tolist()])
        return int(counts[np.argmin(self.weight * losses + price * self.cost * counts)])


@dataclass(frozen=True)
class Thinner:
    """A model, and all that is needed to make it thinner: ``wanted`` is what its layers gave before, by their weights."""

    graph: Graph
    plans: tuple[Plan, ...]
    readers: tuple[Reader, ...]
    rows: Arrays
    wanted: Mapping[str, Array]
    seed: int

    def counts(self, share: float) -> list[int]:
        """How many units each group keeps for a share of the cost that can be saved, the losses as small as may be."""
        low, high = 1e-12, 1e6
        everything = sum(plan.cost * plan.group.units for plan in self.plans)
        for _ in range(60):
            price = (low * high) ** 0.5
            left = sum(plan.cost * plan.best(price) for plan in self.plans)
            low, high = (price, high) if left > share * everything else (low, price)
        return [plan.best(high) for plan in self.plans]

    def thin(self, counts: Sequence[int]) -> Graph:
        """The model with so many units of each group, every later layer fitted anew."""
        graph, groups = self.graph, [plan.group for plan in self.plans]
        for at, (plan, count) in enumerate(zip(self.plans, counts, strict=True)):
            if count < plan.group.units:
                graph, groups = cut(graph, groups, at, plan.order.kept(count))
        changed = {
            reader.weight
            for plan, count in zip(self.plans, counts, strict=True)
            if count < plan.group.units
            for reader in plan.readers
        }
        return self._refit(graph, counts, changed)

    def _refit(self, graph: Graph, counts: Sequence[int], changed: set[str]) -> Graph:
        begun = False
        for reader in self.readers:
            begun = begun or reader.weight in changed
            if begun:
                taken = sample(graph, [reader], self.rows, self.seed)[reader.weight]
                graph = graph.with_weights(
                    refit(reader, graph, taken, self.wanted[reader.weight][:, self._left(reader, counts)])
                )
        return graph

    def _left(self, reader: Reader, counts: Sequence[int]) -> Indices:
        """Which of a layer's outputs are left."""
        left = np.ones(self.graph.weights[reader.weight].shape[reader.outputs_axis], np.bool_)
        for plan, count in zip(self.plans, counts, strict=True):
            units = plan.group.places.get((reader.weight, reader.outputs_axis))
            if units is not None:
                left &= (units < 0) | np.isin(units, plan.order.kept(count))
        return np.flatnonzero(left)


def make_thinner(
    graph: Graph, groups: Sequence[Group], rows: Arrays, seed: int, fast: bool, show: Callable[[str, float], None]
) -> Thinner:
    """Looks at every group on the rows. ``fast``: it is work that is to be saved, not parameters."""
    readers = find_readers(graph)
    costs = _costs(graph, fast)
    plans = []
    for at, group in enumerate(sorted(groups, key=lambda each: _place(readers, each))):
        show(f"looking at {group.name}", at / len(groups))
        ours = readers_of(readers, group)
        if ours:
            taken = sample(graph, ours, rows, seed)
            step = LANES if fast and group.units >= WIDE else 1
            plans.append(Plan(group, tuple(ours), order(group, ours, graph, taken), _cost(graph, costs, group), step))
    wanted = sample(graph, readers, rows, seed, answers=True)
    return _weighed(Thinner(graph, tuple(plans), tuple(readers), rows, wanted, seed), show)


def _place(readers: Sequence[Reader], group: Group) -> int:
    return min((readers.index(reader) for reader in readers_of(readers, group)), default=len(readers))


def _weighed(thinner: Thinner, show: Callable[[str, float], None]) -> Thinner:
    """Each plan's weight: how far the answers move when the group is halved alone, by the loss that this is to its readers."""
    before, plans = thinner.graph.answer(thinner.rows), []
    for at, plan in enumerate(thinner.plans):
        show(f"how much depends on {plan.group.name}", at / len(thinner.plans))
        half = int(plan.counts()[len(plan.counts()) // 2])
        counts = [each.group.units for each in thinner.plans]
        counts[at] = half
        loss = plan.order.loss(half)
        moved = apart(before, thinner.thin(counts).answer(thinner.rows)) if loss > LEAST_LOSS else 0.0
        plans.append(replace(plan, weight=max(moved / loss, 1e-3) if loss > LEAST_LOSS else 1.0))
    return replace(thinner, plans=tuple(plans))


def apart(before: Arrays, after: Arrays) -> float:
    """The mean squared difference of the float outputs, by their variance."""
    parts = []
    for name, array in before.items():
        if array.dtype.kind == "f":
            one, two = array.astype(np.float64), after[name].astype(np.float64)
            parts.append(float(np.mean((one - two) ** 2) / max(float(one.var()), 1e-12)))
    return max(parts, default=0.0)


def _costs(graph: Graph, fast: bool) -> dict[str, float]:
    """For each weight its parameters, or with ``fast`` the multiplications of one row."""
    costs: dict[str, float] = {}
    for node in graph.nodes:
        for name in set(node.input) & set(graph.weights):
            weight = graph.weights[name]
            if weight.dtype.kind not in "iub":
                costs[name] = costs.get(name, 0.0) + weight.size * (_times(graph, node, weight) if fast else 1.0)
    return costs


def _times(graph: Graph, node: object, weight: Array) -> float:
    """How often each value of a weight is multiplied for one row."""
    shape = graph.shapes.get(node.output[0], ())  # type: ignore[attr-defined]
    kind = node.op_type  # type: ignore[attr-defined]
    if kind == "Conv":
        return float(prod(size or 1 for size in shape[2:]))
    if kind == "MatMul":
        return float(prod(size or 1 for size in shape[1:-1]))
    return 1.0 if kind == "Gemm" else 0.0


def _cost(graph: Graph, costs: Mapping[str, float], group: Group) -> float:
    """What one unit costs, of all that the model does."""
    one = 0.0
    for (name, axis), units in group.places.items():
        if name in costs:
            one += costs[name] / graph.weights[name].shape[axis] * float((units >= 0).sum()) / group.units
    return one / max(sum(costs.values()), 1.0)


def losses_of(thinner: Thinner, counts: Sequence[int]) -> Floats:
    """For each group, what its cut is estimated to cost the model's answers."""
    return np.array([plan.weight * plan.order.loss(count) for plan, count in zip(thinner.plans, counts, strict=True)])
