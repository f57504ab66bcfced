"""Counts every passage, and tells the sums of all workers as Prometheus text and as the protocol's statistics.

A request is counted in the region of its worker before its answer is written: none is lost, whoever is killed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from foretell.board import Board
from foretell.observe.metrics.comparisons import Comparisons
from foretell.observe.metrics.counts import MODEL_SIZE, OVERFLOW, Counter, Counts, Tally
from foretell.observe.metrics.exposition import write
from foretell.observe.metrics.statistics import model_statistics
from foretell.observe.metrics.totals import GAUGE_SIZE, Gauge, Sight, Totals, look
from foretell.passage import Passage
from foretell.region import Region

__all__ = ["Counter", "Gauge", "Metrics"]


class Metrics:
    """An observer that counts in its own region, and tells the sums of all.

    ``regions`` are those of all workers, ``regions[own]`` is written here and nowhere else; without any, numbers are private.
    ``gauges`` tells what holds at this moment in this process of every model that is loaded: others are counted, and not told
    (without it, all are). ``board`` knows the other workers.
    """

    def __init__(
        self,
        gauges: Callable[[], Iterable[Gauge]] | None = None,
        regions: Sequence[memoryview] = (),
        own: int = 0,
        board: Board | None = None,
    ) -> None:
        self.gauges = gauges
        self.own = own
        self.board = board
        self.region = Region(regions[own] if regions else None)
        self.regions = [*regions] or [self.region.memory]
        self.jobs: Callable[[], Mapping[str, int]] | None = None
        """How many jobs there are in each state, where there are any."""
        self.comparisons = Comparisons(self.region)
        self.tallies: list[Tally] = [*self.comparisons.tallies]
        self._models: dict[tuple[str, str], Counts] = {}
        self._overflow = self._open(*OVERFLOW)
        self._withdraw_all_but(())

    def __call__(self, passage: Passage) -> None:
        if passage.mode == "shadow":  # no caller's request: `comparisons` counts these
            return
        counts = self._models.get((passage.model, passage.version))
        if counts is None:
            counts = self._open(passage.model, passage.version)
        counts.add(passage)

    def see_all(self, passages: Sequence[Passage]) -> None:
        """Count the passages that one call of a model answered."""
        first = passages[0]
        counts = self._models.get((first.model, first.version))
        if counts is None or first.mode == "shadow":
            for passage in passages:
                self(passage)
        else:
            counts.add_all(passages)

    def counter(self, name: str, text: str, labels: Sequence[str] = ("model", "version")) -> Counter:
        """A new counter, told as ``name`` with ``_total`` behind it. One of a name is made once."""
        counter = Counter(self.region, name, text, labels)
        self.tallies.append(counter)
        return counter

    def publish(self) -> None:
        """Show the gauges of this process to the other workers; to be called every second or so."""
        gauges = self._own_gauges()
        for gauge in gauges:
            vector = self.region.vector(_gauge_name(gauge), GAUGE_SIZE)
            if vector is not None:
                for place, value in enumerate((1.0, *gauge[2:])):
                    vector[place] = value
        self._withdraw_all_but(gauges)

    def text(self) -> bytes:
        """The exposition in Prometheus text format 0.0.4."""
        sight = self.look()
        return write(sight, None if self.gauges is None else sight.gauges, self.tallies, self.board, self.jobs and self.jobs())

    def statistics(self, name: str, version: str) -> dict[str, Any]:
        """One ``model_stats`` entry of the statistics extension, JSON-ready: counts and nanoseconds; zeros before its first."""
        return model_statistics(name, version, self.look().models.get((name, version)) or Totals())

    def look(self) -> Sight:
        """The sums at this moment."""
        regions = [(region, self._is_other(number)) for number, region in enumerate(self.regions)]
        return look(regions, self._own_gauges())

    def _own_gauges(self) -> list[Gauge]:
        return [] if self.gauges is None else list(self.gauges())

    def _is_other(self, number: int) -> bool:
        """Whether another worker lives in this place, and what it published holds."""
        return number != self.own and (self.board is None or self.board.slots[number].pid != 0)

    def _open(self, model: str, version: str) -> Counts:
        numbers = self.region.vector(("model", model, version), MODEL_SIZE)
        if numbers is None and (model, version) == OVERFLOW:
            numbers = Region(size_bytes=2**16).vector(OVERFLOW, MODEL_SIZE)
        counts = self._overflow if numbers is None else Counts(self.region, numbers, model, version)
        self._models[model, version] = counts
        return counts

    def _withdraw_all_but(self, gauges: Iterable[Gauge]) -> None:
        """Take back the gauges of models that are gone, or that a worker showed which this one replaces."""
        kept = {_gauge_name(gauge) for gauge in gauges}
        for name in self.region.names():
            if name[0] == "gauge" and name not in kept:
                vector = self.region.vector(name, GAUGE_SIZE)
                if vector is not None:
                    vector[0] = 0.0


def _gauge_name(gauge: Gauge) -> tuple[str, str, str]:
    return ("gauge", gauge.model, gauge.version)
