"""The sums over all workers at one moment: what every way of telling the numbers starts from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import fsum
from operator import add
from typing import NamedTuple

from foretell.observe.metrics.counts import (
    BATCH_SIZE,
    BUCKETS,
    FAILED,
    FATES,
    FORWARD_ROWS,
    FORWARDS,
    HITS,
    LAST,
    MISSES,
    MODEL_SIZE,
    OTHER_BATCHES,
    OTHER_OUTCOMES,
    PHASES,
    REQUEST_ROWS,
    REQUESTS,
    ROWS,
    Counter,
    Largest,
)
from foretell.region import Name, lost, read

Key = tuple[str, str]
"""Model and version."""
OTHER = "other"
MERGE: dict[str, Callable[[float, float], float]] = {Counter.kind: add, Largest.kind: max}
"""How the numbers of a tally of each kind, one of each worker, become one."""


class Gauge(NamedTuple):
    """What holds at this moment of a model that is loaded."""

    model: str
    version: str
    queue_rows: float = 0.0
    queue_requests: float = 0.0
    queue_bytes: float = 0.0
    in_flight: float = 0.0
    memory_bytes: float = 0.0


GAUGE_SIZE = len(Gauge._fields) - 1
"""Numbers in its vector: whether it is shown, and all but the names."""


@dataclass
class Totals:
    """The sums of one version of one model. Phases are seconds before the queue, in it, in the model and after."""

    numbers: list[float] = field(default_factory=lambda: [0.0] * MODEL_SIZE)
    batches: dict[int, list[float]] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], float] = field(default_factory=dict)
    """Requests that failed, by fate and code."""

    @property
    def ok(self) -> float:
        return self.computed + self.hits

    @property
    def computed(self) -> float:
        """Requests that the model computed an answer for."""
        return self._over_batches(REQUESTS)

    @property
    def hits(self) -> float:
        return self.numbers[HITS]

    @property
    def misses(self) -> float:
        return self.numbers[MISSES]

    @property
    def failed(self) -> float:
        return sum(self.outcomes.values())

    @property
    def rows(self) -> float:
        return self._over_batches(REQUEST_ROWS)

    @property
    def forwards(self) -> float:
        return self._over_batches(FORWARDS)

    @property
    def forward_rows(self) -> float:
        return self._over_batches(FORWARD_ROWS)

    @property
    def computed_phases(self) -> list[float]:
        return [self._over_batches(PHASES + phase) for phase in range(4)]

    @property
    def hit_phases(self) -> list[float]:
        return self.numbers[HITS + 1 : HITS + 5]

    @property
    def failed_phases(self) -> list[float]:
        return self.numbers[FAILED : FAILED + 4]

    @property
    def phases(self) -> list[float]:
        """Of all requests together: their sum is the sum of the requests' whole times."""
        return [sum(each) for each in zip(self.computed_phases, self.hit_phases, self.failed_phases, strict=True)]

    @property
    def last_started(self) -> float:
        return self.numbers[LAST]

    def buckets(self, start: int) -> list[float]:
        """One of the three histograms of seconds, each bucket alone."""
        return self.numbers[start : start + BUCKETS]

    def forward_buckets(self) -> list[float]:
        """Forwards by their rows, in the buckets of ``ROWS``."""
        counts = [0.0] * (len(ROWS) + 1)
        for size, batch in self.batches.items():
            place = next((place for place, bound in enumerate(ROWS) if size <= bound), len(ROWS)) if size else len(ROWS)
            counts[place] += batch[FORWARDS]
        return counts

    def fates(self) -> dict[str, float]:
        """Every request, by what became of it: the four together are those that ended."""
        fates = dict.fromkeys(FATES, 0.0)
        fates["accepted"] = self.ok
        for (fate, _), count in self.outcomes.items():
            fates[fate] += count
        return fates

    def _over_batches(self, place: int) -> float:
        """A sum that no order changes: else a new size could shrink it in its last digit, which looks like a new start."""
        return fsum(batch[place] for batch in self.batches.values())


@dataclass
class Sight:
    """All that the regions held when they were looked at."""

    models: dict[Key, Totals]
    gauges: dict[Key, Gauge]
    tallies: dict[Name, float]
    lost: int


def look(regions: Iterable[tuple[memoryview, bool]], gauges: Iterable[Gauge]) -> Sight:
    """Sum up the regions, the ``gauges``, and those that are published in a region of which it says True: its worker lives."""
    sight = Sight({}, {}, {}, 0)
    for gauge in gauges:
        _take_gauge(sight, gauge)
    for region, lives in regions:
        sight.lost += lost(region)
        for name, numbers in read(region).items():
            if name[0] != "gauge":
                _take(sight, name, numbers)
            elif lives and len(name) == 3 and len(numbers) == GAUGE_SIZE and numbers[0]:
                _take_gauge(sight, Gauge(name[1], name[2], *numbers[1:]))
    for totals in sight.models.values():
        _fold(totals)
    return sight


def _take_gauge(sight: Sight, gauge: Gauge) -> None:
    before = sight.gauges.get(gauge[:2])
    sight.gauges[gauge[:2]] = gauge if before is None else Gauge(*gauge[:2], *map(add, before[2:], gauge[2:]))


def _take(sight: Sight, name: Name, numbers: list[float]) -> None:
    """Add one worker's vector; one whose name or size is none of ours is passed over."""
    kind, parts = name[0], name[1:]
    if kind in MERGE and len(numbers) == 1:
        sight.tallies[name] = MERGE[kind](sight.tallies.get(name, 0.0), numbers[0])
    elif kind == "model" and len(parts) == 2 and len(numbers) == MODEL_SIZE:
        totals = _totals(sight, parts)
        last = max(totals.numbers[LAST], numbers[LAST])
        totals.numbers = list(map(add, totals.numbers, numbers))
        totals.numbers[LAST] = last
    elif kind == "batch" and len(parts) == 3 and len(numbers) == BATCH_SIZE and parts[2].isdecimal():
        batches, size = _totals(sight, parts).batches, int(parts[2][:9])
        batches[size] = list(map(add, batches.get(size, [0.0] * BATCH_SIZE), numbers))
    elif kind == "outcome" and len(parts) == 4 and len(numbers) == 1 and parts[2] in FATES:
        outcomes, outcome = _totals(sight, parts).outcomes, (parts[2], parts[3])
        outcomes[outcome] = outcomes.get(outcome, 0.0) + numbers[0]


def _totals(sight: Sight, parts: Name) -> Totals:
    return sight.models.setdefault((parts[0], parts[1]), Totals())


def _fold(totals: Totals) -> None:
    """Show what was counted in the places for what found no room."""
    others = totals.numbers[OTHER_BATCHES : OTHER_BATCHES + BATCH_SIZE]
    if others[REQUESTS]:
        totals.batches[0] = list(map(add, totals.batches.get(0, [0.0] * BATCH_SIZE), others))
    for place, fate in enumerate(FATES, OTHER_OUTCOMES):
        if totals.numbers[place]:
            totals.outcomes[fate, OTHER] = totals.outcomes.get((fate, OTHER), 0.0) + totals.numbers[place]
