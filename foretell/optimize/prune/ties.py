"""Which channels of a graph stand or fall together: every index of every axis, tied to those that must be cut with it.

A place is one axis of one tensor, be it a weight or a value on its way. An operator ties the places of what it takes to those
of what it gives, index by index; what it says nothing of cannot be cut, and neither can anything that is tied to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

Place = tuple[str, int]
Indices = NDArray[np.int64]


@dataclass
class Ties:
    """Collects what is tied and what is fast; ``shapes`` of all tensors, None for a length that is not known."""

    shapes: Mapping[str, Sequence[int | None]]
    offsets: dict[Place, int] = field(default_factory=dict)
    pairs: list[tuple[Indices, Indices]] = field(default_factory=list)
    stops: list[tuple[Indices, str]] = field(default_factory=list)
    total: int = 0

    def size(self, place: Place) -> int | None:
        shape = self.shapes.get(place[0])
        return None if shape is None or not -len(shape) <= place[1] < len(shape) else shape[place[1]]

    def elements(self, place: Place) -> Indices:
        """The numbers of a place's indices among all of the graph's; none of a place of unknown length."""
        size = self.size(place)
        if size is None:
            return np.zeros(0, np.int64)
        if place not in self.offsets:
            self.offsets[place] = self.total
            self.total += size
        return np.arange(size) + self.offsets[place]

    def tie(self, one: Place, other: Place, at: Indices | None = None) -> None:
        """Index ``at[i]`` of ``one`` to index i of ``other``; without ``at`` one to one. Unequal lengths both stay whole."""
        first, second = self.elements(one), self.elements(other)
        if at is not None and len(first):
            first = first[at]
        if len(first) != len(second):
            self.stop(one, "its length changes")
            self.stop(other, "its length changes")
        else:
            self.pairs.append((first, second))

    def stop(self, place: Place, why: str) -> None:
        """Nothing of this place can be cut."""
        self.stops.append((self.elements(place), why))

    def stop_all(self, names: Iterable[str], why: str) -> None:
        for name in names:
            for axis in range(len(self.shapes.get(name, ()))):
                self.stop((name, axis), why)

    def components(self) -> Indices:
        """For each element the number of what it stands or falls with."""
        if not self.total:
            return np.zeros(0, np.int64)
        ends = [np.concatenate([pair[side] for pair in self.pairs] or [np.zeros(0, np.int64)]) for side in (0, 1)]
        matrix = coo_array((np.ones(len(ends[0]), np.int8), (ends[0], ends[1])), shape=(self.total, self.total))
        labels: Indices = connected_components(matrix, directed=False)[1].astype(np.int64)
        return labels

    def stopped(self, labels: Indices) -> dict[int, str]:
        """The components that cannot be cut, and why: an operator's reason before that of the graph's own edge."""
        found: dict[int, str] = {}
        for elements, why in self.stops:
            for label in np.unique(labels[elements]).tolist():
                found.setdefault(label, why)
        return found


@dataclass(frozen=True)
class Group:
    """Channels that can be cut one by one: for each place, which unit each index belongs to; -1 is another group's."""

    name: str
    units: int
    places: Mapping[Place, Indices]

    def keeping(self, kept: Indices) -> "Group":
        """The same group when only the units of ``kept`` are left, numbered anew."""
        numbers = np.full(self.units + 1, -2)
        numbers[kept] = np.arange(len(kept))
        numbers[-1] = -1  # index -1 stays another group's
        return Group(
            self.name, len(kept), {place: new[new > -2] for place, units in self.places.items() if len(new := numbers[units])}
        )


def groups_of(ties: Ties, weights: Iterable[str]) -> tuple[list[Group], dict[Place, str]]:
    """The groups that can be cut, and for each place of a weight that cannot, the reason."""
    labels = ties.components()
    stopped = ties.stopped(labels)
    of_weights = set(weights)
    touched: dict[int, list[Place]] = {}
    fast: dict[Place, str] = {}
    for place, start in ties.offsets.items():
        for label in np.unique(labels[start : start + (ties.size(place) or 0)]).tolist():
            if label not in stopped:
                touched.setdefault(label, []).append(place)
            elif place[0] in of_weights:
                fast.setdefault(place, stopped[label])
    together: dict[tuple[Place, ...], list[int]] = {}
    for label, places in touched.items():
        together.setdefault(tuple(places), []).append(label)
    groups = [_group(ties, labels, places, sorted(members), of_weights) for places, members in together.items()]
    return [group for group in groups if group is not None], fast


def _group(ties: Ties, labels: Indices, places: Sequence[Place], members: Sequence[int], weights: set[str]) -> Group | None:
    names = [place[0] for place in places if place[0] in weights]
    if not names or len(members) < 2:
        return None
    named = next(
        (name for name in names if "." in name and not name.startswith("/")), names[0]
    )  # not one that an exporter made up
    numbers, ours = np.full(int(labels.max()) + 1, -1), set(members)
    order = [label for label in dict.fromkeys(labels[ties.elements(places[0])].tolist()) if label in ours]
    numbers[order] = np.arange(len(order))
    return Group(named, len(order), {place: numbers[labels[ties.elements(place)]] for place in places})
