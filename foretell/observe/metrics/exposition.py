"""The numbers as Prometheus text, under our own names and under those that dashboards for Triton know.

https://github.com/triton-inference-server/server/blob/main/docs/user_guide/metrics.md
"""

import os
import platform
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from foretell.board import Board
from foretell.observe.metrics.counts import COMPUTE, FATES, OVERFLOW, QUEUE, ROWS, SECONDS, TOTAL, Counter, Tally
from foretell.observe.metrics.totals import Gauge, Key, Sight, Totals

LABELS = ("model", "version")

COUNTERS: tuple[tuple[str, str, Callable[[Totals], float]], ...] = (
    ("foretell_rows", "Rows that the model computed for requests that it answered.", lambda totals: totals.rows),
    ("foretell_forwards", "Calls of the model.", lambda totals: totals.forwards),
    ("foretell_input_seconds", "Time of requests before the queue.", lambda totals: totals.phases[0]),
    ("foretell_output_seconds", "Time of requests after the model.", lambda totals: totals.phases[3]),
    ("foretell_cache_hits", "Answers that were kept, or another request's.", lambda totals: totals.hits),
    ("foretell_cache_misses", "Requests that no kept answer was found for.", lambda totals: totals.misses),
)
GAUGES: tuple[tuple[str, str, Callable[[Gauge], float]], ...] = (
    ("foretell_queue_rows", "Rows that wait now.", lambda gauge: gauge.queue_rows),
    ("foretell_queue_bytes", "Bytes of the inputs that wait now.", lambda gauge: gauge.queue_bytes),
    ("foretell_in_flight_requests", "Requests that are being answered now.", lambda gauge: gauge.in_flight),
    ("foretell_model_memory_bytes", "Memory that the model came to hold when it was loaded.", lambda gauge: gauge.memory_bytes),
)
REASONS = {"rejected": "OTHER", "expired": "REJECTED", "cancelled": "CANCELED", "accepted": "BACKEND"}
"""Triton's word for each fate of a request that failed: its REJECTED is a timeout in the queue."""
ALIASES: tuple[tuple[str, str, Callable[[Totals], float]], ...] = (
    ("nv_inference_request_success", "Requests that were answered.", lambda totals: totals.ok),
    ("nv_inference_count", "Rows that the model computed.", lambda totals: totals.rows),
    ("nv_inference_exec_count", "Calls of the model.", lambda totals: totals.forwards),
    ("nv_inference_request_duration_us", "Time of requests that were answered.", lambda totals: _us(*_answered_s(totals))),
    ("nv_inference_queue_duration_us", "Time in the queue.", lambda totals: _us(totals.computed_phases[1])),
    ("nv_inference_compute_input_duration_us", "Time before the queue.", lambda totals: _us(totals.computed_phases[0])),
    ("nv_inference_compute_infer_duration_us", "Time in the model.", lambda totals: _us(totals.computed_phases[2])),
    ("nv_inference_compute_output_duration_us", "Time after the model.", lambda totals: _us(totals.computed_phases[3])),
    ("nv_cache_num_hits_per_model", "Answers that were not computed.", lambda totals: totals.hits),
    ("nv_cache_num_misses_per_model", "Requests that no kept answer was found for.", lambda totals: totals.misses),
)


def write(
    sight: Sight,
    loaded: Container[Key] | None,
    tallies: Iterable[Tally],
    board: Board | None,
    jobs: Mapping[str, int] | None = None,
) -> bytes:
    """The whole exposition, of the models that are ``loaded``; None: of all."""
    overflow = sight.models.pop(OVERFLOW, Totals())
    models = {key: totals for key, totals in sight.models.items() if loaded is None or key in loaded}
    families = [
        *_requests(models),
        *_histograms(models),
        *_gauges(sight.gauges),
        *_tallies(sight, tallies, loaded),
        *_server(overflow.ok + overflow.failed, sight.lost, board),
        *_jobs(jobs or {}),
    ]
    return generate_latest(_Families(families)) + "".join(_aliases(models, sight.gauges)).encode()


class _Families(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def _requests(models: dict[Key, Totals]) -> Iterator[Metric]:
    requests = CounterMetricFamily("foretell_requests", "Requests that ended, by outcome.", labels=[*LABELS, "outcome"])
    fates = CounterMetricFamily("foretell_request_fates", "The same, by what became of them.", labels=[*LABELS, "fate"])
    for key, totals in models.items():
        requests.add_metric((*key, "ok"), totals.ok)
        for code in sorted({code for _, code in totals.outcomes}):
            requests.add_metric((*key, code), sum(totals.outcomes.get((fate, code), 0.0) for fate in FATES))
        for fate, count in totals.fates().items():
            fates.add_metric((*key, fate), count)
    yield requests
    yield fates
    for name, text, number in COUNTERS:
        family = CounterMetricFamily(name, text, labels=LABELS)
        for key, totals in models.items():
            family.add_metric(key, number(totals))
        yield family


def _histograms(models: dict[Key, Totals]) -> Iterator[Metric]:
    total = HistogramMetricFamily("foretell_request_seconds", "From the last byte of a request to its answer.", labels=LABELS)
    queue = HistogramMetricFamily("foretell_queue_seconds", "Time that a request waited for the model.", labels=LABELS)
    compute = HistogramMetricFamily("foretell_compute_seconds", "Time of the forward that a request was in.", labels=LABELS)
    batch_rows = HistogramMetricFamily("foretell_batch_rows", "Rows in one forward.", labels=LABELS)
    for key, totals in models.items():
        total.add_metric(key, _buckets(SECONDS, totals.buckets(TOTAL)), sum(totals.phases))
        queue.add_metric(key, _buckets(SECONDS, totals.buckets(QUEUE)), totals.phases[1])
        compute.add_metric(key, _buckets(SECONDS, totals.buckets(COMPUTE)), totals.phases[2])
        batch_rows.add_metric(key, _buckets(ROWS, totals.forward_buckets()), totals.forward_rows)
    return iter((total, queue, compute, batch_rows))


def _gauges(gauges: dict[Key, Gauge]) -> Iterator[Metric]:
    for name, text, number in GAUGES:
        family = GaugeMetricFamily(name, text, labels=LABELS)
        for key, gauge in gauges.items():
            family.add_metric(key, number(gauge))
        yield family


def _tallies(sight: Sight, tallies: Iterable[Tally], loaded: Container[Key] | None) -> Iterator[Metric]:
    for tally in tallies:
        make = CounterMetricFamily if isinstance(tally, Counter) else GaugeMetricFamily
        family: CounterMetricFamily | GaugeMetricFamily = make(tally.name, tally.text, labels=tally.labels)
        for (kind, name, *values), number in sorted(sight.tallies.items()):
            is_told = loaded is None or tally.labels[:2] != LABELS or tuple(values[:2]) in loaded
            if (kind, name) == (tally.kind, tally.name) and len(values) == len(tally.labels) and is_told:
                family.add_metric(values, number)
        if family.samples:
            yield family


def _server(overflow: float, lost: int, board: Board | None) -> Iterator[Metric]:
    yield CounterMetricFamily("foretell_overflow_requests", "Requests counted for no model: no room for their own.", overflow)
    yield CounterMetricFamily("foretell_overflow_series", "Times that a series found no room.", lost)
    built = GaugeMetricFamily("foretell_build_info", "Always 1; what runs here is in the labels.", labels=("version", "python"))
    built.add_metric((version("foretell"), platform.python_version()), 1)
    yield built
    yield _resident({0: os.getpid()} if board is None else {slot.number: slot.pid for slot in board.slots if slot.pid})
    if board is not None:
        workers = GaugeMetricFamily("foretell_workers", "Worker processes, by state.", labels=("state",))
        for state, count in board.states().items():
            workers.add_metric((state,), count)
        yield workers
        yield CounterMetricFamily("foretell_worker_restarts", "Workers that replaced a dead one.", board.restarts)
        yield GaugeMetricFamily("foretell_connections", "Open connections.", sum(board.connections().values()))


def _jobs(counts: Mapping[str, int]) -> Iterator[Metric]:
    if counts:
        jobs = GaugeMetricFamily("foretell_jobs", "Jobs that are kept, by state.", labels=("state",))
        for state, count in sorted(counts.items()):
            jobs.add_metric((state,), count)
        yield jobs


def _resident(pids: dict[int, int]) -> Metric:
    family = GaugeMetricFamily("process_resident_memory_bytes", "Resident memory of each worker.", labels=("worker",))
    for number, pid in pids.items():
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:  # it has just died, or this system counts elsewhere
            continue
        family.add_metric((str(number),), pages * os.sysconf("SC_PAGE_SIZE"))
    return family


def _aliases(models: dict[Key, Totals], gauges: dict[Key, Gauge]) -> Iterator[str]:
    """Lines of our own: prometheus-client gives every counter a name that ends in ``_total``."""
    for name, text, number in ALIASES:
        yield _head(name, text, "counter")
        yield from (f"{name}{{{_labels(key)}}} {number(totals)!r}\n" for key, totals in models.items())
    yield _head("nv_inference_request_failure", "Requests that failed, by reason.", "counter")
    for key, totals in models.items():
        failed = {**totals.fates(), "accepted": totals.fates()["accepted"] - totals.ok}
        for fate, reason in REASONS.items():
            yield f'nv_inference_request_failure{{{_labels(key)},reason="{reason}"}} {failed[fate]!r}\n'
    yield _head("nv_inference_pending_request_count", "Requests that wait for the model now.", "gauge")
    for key, gauge in gauges.items():
        yield f"nv_inference_pending_request_count{{{_labels(key)}}} {gauge.queue_requests!r}\n"


def _head(name: str, text: str, kind: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _labels(key: Key) -> str:
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(LABELS, key, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _buckets(bounds: Sequence[float], counts: Iterable[float]) -> list[tuple[str, float]]:
    """Cumulative counts, as the text format wants them."""
    return list(zip((*map(str, bounds), "+Inf"), accumulate(counts), strict=True))


def _answered_s(totals: Totals) -> list[float]:
    return [*totals.computed_phases, *totals.hit_phases]


def _us(*seconds: float) -> float:
    return sum(seconds) * 1e6
