"""Counts every passage and writes the sums as Prometheus text. Base units: seconds and bytes."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from foretell.passage import Passage

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
LABELS = ("model", "version")

Gauge = tuple[str, str, float, float]
"""model, version, rows that wait, requests in flight."""


class Histogram:
    """Counts by upper bound, and a sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts, as the text format wants them."""
        total, rows = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


class ModelCounts:
    """The numbers of one version of one model."""

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self.rows = 0
        self.total = Histogram(SECONDS)
        self.queue = Histogram(SECONDS)
        self.compute = Histogram(SECONDS)
        self.batch = Histogram(tuple(map(float, ROWS)))


class Metrics(Collector):
    """An observer that counts; ``gauges`` is asked at each scrape for what holds at that moment."""

    def __init__(self, gauges: Callable[[], Iterable[Gauge]] = lambda: ()) -> None:
        self.gauges = gauges
        self.models: dict[tuple[str, str], ModelCounts] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def __call__(self, passage: Passage) -> None:
        key = (passage.model, passage.version)
        counts = self.models.get(key)
        if counts is None:
            counts = self.models[key] = ModelCounts()
        outcome = "ok" if passage.error is None else passage.error.code
        counts.requests[outcome] = counts.requests.get(outcome, 0) + 1
        counts.total.add(passage.ended - passage.received)
        if passage.queued:
            counts.queue.add(passage.queue_s)
        if passage.computed:
            counts.rows += passage.rows
            counts.compute.add(passage.computed - passage.started)
            counts.batch.add(passage.batch_rows)

    def text(self) -> bytes:
        """The exposition in Prometheus text format 0.0.4."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("foretell_requests", "Requests that ended, by outcome.", labels=[*LABELS, "outcome"])
        rows = CounterMetricFamily("foretell_rows", "Rows that the model computed.", labels=LABELS)
        for key, counts in self.models.items():
            rows.add_metric(key, counts.rows)
            for outcome, count in counts.requests.items():
                requests.add_metric((*key, outcome), count)
        yield requests
        yield rows
        yield self._histogram("foretell_request_seconds", "Time from the last byte of a request to its answer.", "total")
        yield self._histogram("foretell_queue_seconds", "Time that a request waited for the model.", "queue")
        yield self._histogram("foretell_compute_seconds", "Time of the forward that a request was part of.", "compute")
        yield self._histogram("foretell_batch_rows", "Rows in the forward that a request was part of.", "batch")
        waiting = GaugeMetricFamily("foretell_queue_rows", "Rows that wait now.", labels=LABELS)
        in_flight = GaugeMetricFamily("foretell_in_flight_requests", "Requests that are being answered now.", labels=LABELS)
        for model, version, rows_waiting, requests_in_flight in self.gauges():
            waiting.add_metric((model, version), rows_waiting)
            in_flight.add_metric((model, version), requests_in_flight)
        yield waiting
        yield in_flight

    def _histogram(self, name: str, text: str, attribute: str) -> HistogramMetricFamily:
        family = HistogramMetricFamily(name, text, labels=LABELS)
        for key, counts in self.models.items():
            histogram: Histogram = getattr(counts, attribute)
            family.add_metric(key, histogram.buckets(), histogram.sum)
        return family
