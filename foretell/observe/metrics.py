"""Counts every passage, and tells the sums as Prometheus text and as the protocol's statistics: one set of numbers for both.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from foretell.passage import Passage

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)
LABELS = ("model", "version")

Gauge = tuple[str, str, float, float]
"""model, version, rows that wait, requests in flight."""


class Histogram:
    """Counts by upper bound, and a sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts, as the text format wants them."""
        total, rows = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


class Batch:
    """The requests that ran in batches of one size: how many, and their seconds before, in and after the model."""

    __slots__ = ("count", "infer_s", "input_s", "output_s")

    def __init__(self) -> None:
        self.count = 0
        self.input_s = self.infer_s = self.output_s = 0.0


class Counts:
    """The numbers of one version of one model."""

    def __init__(self) -> None:
        self.ok = 0
        self.refused: dict[str, int] = {}
        self.refused_s = 0.0
        self.rows = 0
        self.forwards = 0
        self.last_started = 0.0
        self.total = Histogram(SECONDS)
        self.queue = Histogram(SECONDS)
        self.compute = Histogram(SECONDS)
        self.batches: dict[int, Batch] = {}

    def add(self, passage: Passage) -> None:
        total_s = passage.ended - passage.received
        self.total.add(total_s)
        if passage.error is not None:
            code = passage.error.code
            self.refused[code] = self.refused.get(code, 0) + 1
            self.refused_s += total_s
            return
        infer_s = passage.computed - passage.started
        self.ok += 1
        self.rows += passage.rows
        self.queue.add(passage.started - passage.queued)
        self.compute.add(infer_s)
        if passage.started != self.last_started:  # the passages of one forward share its start
            self.last_started = passage.started
            self.forwards += 1
        batch = self.batches.get(passage.batch_rows)
        if batch is None:
            batch = self.batches[passage.batch_rows] = Batch()
        batch.count += 1
        batch.input_s += passage.queued - passage.received
        batch.infer_s += infer_s
        batch.output_s += passage.ended - passage.computed

    @property
    def batch_rows(self) -> Histogram:
        histogram = Histogram(ROWS)
        for size, batch in self.batches.items():
            histogram.add(float(size), batch.count)
        return histogram


class Metrics(Collector):
    """An observer that counts; ``gauges`` is asked at each scrape for what holds at that moment."""

    def __init__(self, gauges: Callable[[], Iterable[Gauge]] = lambda: ()) -> None:
        self.gauges = gauges
        self.models: dict[tuple[str, str], Counts] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def __call__(self, passage: Passage) -> None:
        counts = self.models.get((passage.model, passage.version))
        if counts is None:
            counts = self.models[passage.model, passage.version] = Counts()
        counts.add(passage)

    def text(self) -> bytes:
        """The exposition in Prometheus text format 0.0.4."""
        return generate_latest(self.registry)

    def statistics(self, name: str, version: str) -> dict[str, Any]:
        """One ``model_stats`` entry of the statistics extension, JSON-ready: counts and nanoseconds; zeros before its first."""
        counts = self.models.get((name, version)) or Counts()
        batches = sorted(counts.batches.items())
        durations = {
            "success": _duration(counts.ok, counts.total.sum - counts.refused_s),
            "fail": _duration(sum(counts.refused.values()), counts.refused_s),
            "queue": _duration(counts.ok, counts.queue.sum),
            "compute_input": _duration(counts.ok, sum(batch.input_s for _, batch in batches)),
            "compute_infer": _duration(counts.ok, counts.compute.sum),
            "compute_output": _duration(counts.ok, sum(batch.output_s for _, batch in batches)),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        }
        return {
            "name": name,
            "version": version,
            "last_inference": _epoch_ms(counts.last_started),
            "inference_count": counts.rows,
            "execution_count": counts.forwards,
            "inference_stats": durations,
            "batch_stats": [_batch(size, batch) for size, batch in batches],
        }

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("foretell_requests", "Requests that ended, by outcome.", labels=[*LABELS, "outcome"])
        rows = CounterMetricFamily("foretell_rows", "Rows that the model computed.", labels=LABELS)
        for key, counts in self.models.items():
            rows.add_metric(key, counts.rows)
            for outcome, count in {"ok": counts.ok, **counts.refused}.items():
                requests.add_metric((*key, outcome), count)
        yield requests
        yield rows
        yield self._histogram("foretell_request_seconds", "Time from the last byte of a request to its answer.", "total")
        yield self._histogram("foretell_queue_seconds", "Time that a request waited for the model.", "queue")
        yield self._histogram("foretell_compute_seconds", "Time of the forward that a request was part of.", "compute")
        yield self._histogram("foretell_batch_rows", "Rows in the forward that a request was part of.", "batch_rows")
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


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(max(0.0, seconds) * 1e9)}


def _batch(size: int, batch: Batch) -> dict[str, Any]:
    return {
        "batch_size": size,
        "compute_input": _duration(batch.count, batch.input_s),
        "compute_infer": _duration(batch.count, batch.infer_s),
        "compute_output": _duration(batch.count, batch.output_s),
    }


def _epoch_ms(monotonic_s: float) -> int:
    """A monotonic time as milliseconds since the epoch; 0 for never."""
    return round((time.time() - time.monotonic() + monotonic_s) * 1000) if monotonic_s else 0
