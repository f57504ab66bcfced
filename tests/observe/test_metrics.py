"""One set of numbers, told as Prometheus text and as the protocol's statistics."""

import re

import pytest

from foretell.errors import Invalid
from foretell.observe.metrics import Metrics
from foretell.passage import Passage


def passage_of(rows: int = 1, batch_rows: int = 1, *, started: float = 10.3, error: Invalid | None = None) -> Passage:
    """Received at 10.0 s, queued 0.1 later, computed in 0.2, ended 0.1 after that."""
    computed = started + 0.2
    return Passage("m", "1", "http", 10.0, None, rows, batch_rows, 10.1, started, computed, computed + 0.1, error)


def value(metrics: Metrics, series: str) -> float:
    match = re.search(rf"^{re.escape(series)} (\S+)$", metrics.text().decode(), re.MULTILINE)
    assert match is not None, series
    return float(match[1])


def test_requests_are_counted_by_outcome_and_rows_by_success() -> None:
    metrics = Metrics()
    metrics(passage_of(rows=3))
    metrics(passage_of(error=Invalid("wrong_shape", "no")))
    assert value(metrics, 'foretell_requests_total{model="m",outcome="ok",version="1"}') == 1
    assert value(metrics, 'foretell_requests_total{model="m",outcome="wrong_shape",version="1"}') == 1
    assert value(metrics, 'foretell_rows_total{model="m",version="1"}') == 3


def test_histograms_are_cumulative_and_sum_up() -> None:
    metrics = Metrics()
    metrics(passage_of())
    assert value(metrics, 'foretell_compute_seconds_bucket{le="0.1",model="m",version="1"}') == 0
    assert value(metrics, 'foretell_compute_seconds_bucket{le="0.25",model="m",version="1"}') == 1
    assert value(metrics, 'foretell_compute_seconds_bucket{le="+Inf",model="m",version="1"}') == 1
    assert value(metrics, 'foretell_request_seconds_sum{model="m",version="1"}') == pytest.approx(0.6)


def test_gauges_are_asked_at_each_scrape() -> None:
    waiting = [5.0]
    metrics = Metrics(lambda: [("m", "1", waiting[0], 2.0)])
    assert value(metrics, 'foretell_queue_rows{model="m",version="1"}') == 5
    waiting[0] = 7.0
    assert value(metrics, 'foretell_queue_rows{model="m",version="1"}') == 7


def test_statistics_sum_the_phases_and_count_forwards_once() -> None:
    metrics = Metrics()
    for started in (10.3, 10.3, 11.0):
        metrics(passage_of(rows=2, batch_rows=4, started=started))
    stats = metrics.statistics("m", "1")
    assert (stats["inference_count"], stats["execution_count"]) == (6, 2)
    assert stats["inference_stats"]["success"]["count"] == 3
    assert stats["inference_stats"]["compute_infer"] == {"count": 3, "ns": 600_000_000}
    [batch] = stats["batch_stats"]
    assert (batch["batch_size"], batch["compute_output"]) == (4, {"count": 3, "ns": 300_000_000})


def test_phases_add_up_to_the_total() -> None:
    metrics = Metrics()
    metrics(passage_of())
    stats = metrics.statistics("m", "1")["inference_stats"]
    phases = ("queue", "compute_input", "compute_infer", "compute_output")
    assert sum(stats[phase]["ns"] for phase in phases) == pytest.approx(stats["success"]["ns"], rel=0.01)


def test_a_model_that_was_never_asked_has_zeros() -> None:
    stats = Metrics().statistics("m", "1")
    assert (stats["inference_count"], stats["last_inference"], stats["batch_stats"]) == (0, 0, [])
