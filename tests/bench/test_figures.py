"""Figures: equal to numpy's where numpy has them, and honest about what is not known."""

import math

import numpy as np
import pytest

from foretell.bench.figures import early_stopping, percentiles, summarize
from foretell.bench.load import Samples


def samples_of(latencies: list[float], seconds: float = 10.0) -> Samples:
    samples = Samples(seconds=seconds)
    samples.due.extend(np.linspace(0.0, seconds * 0.99, len(latencies)))
    samples.took.extend(latencies)
    return samples


@pytest.mark.parametrize("count", [1, 2, 3, 10, 99, 100, 101, 12_345])
def test_percentiles_are_those_of_numpy(count: int) -> None:
    latencies = np.random.default_rng(count).lognormal(size=count)
    found = percentiles(latencies)
    assert list(found.values()) == pytest.approx(np.percentile(latencies, [50, 90, 99, 99.9]).tolist())


def test_intervals_hold_the_true_percentile_about_as_often_as_they_say() -> None:
    true = {"p50": 1.0, "p90": math.exp(1.2815515594)}
    held = dict.fromkeys(true, 0)
    for seed in range(60):
        latencies = np.random.default_rng(seed).lognormal(size=2000)
        found = summarize(samples_of(latencies.tolist()), 0.0).intervals
        for name, value in true.items():
            low, high = found[name]
            held[name] += low <= value <= high
    assert all(count >= 50 for count in held.values())


def test_neighbours_that_share_their_fate_widen_the_interval() -> None:
    calm = np.random.default_rng(0).lognormal(size=2000)
    moody = calm * np.repeat(np.random.default_rng(1).lognormal(size=20), 100)
    widths = []
    for latencies in (calm, moody):
        low, high = summarize(samples_of(latencies.tolist()), 0.0).intervals["p50"]
        widths.append(high / low)
    assert widths[1] - 1 > 3 * (widths[0] - 1)


def test_too_few_requests_give_no_interval() -> None:
    assert "p99.9" not in summarize(samples_of([0.001] * 5000), 0.0).intervals
    assert "p99.9" in summarize(samples_of([0.001] * 10_000), 0.0).intervals


def test_no_samples_are_no_figures_and_no_failure() -> None:
    figures = summarize(Samples(seconds=1.0), 0.0)
    assert math.isnan(figures.latency_s["p99"])
    assert figures.rate == 0.0


def test_a_late_generator_says_that_it_was_the_limit() -> None:
    samples = samples_of([0.004] * 1000)
    samples.lag.extend([0.0001] * 1000)
    assert summarize(samples, 0.0).limit() == ""
    samples.lag.extend([0.003] * 1000)
    assert "3.0 ms late" in summarize(samples, 0.0).limit()
    assert summarize(samples, 0.0).limit(bound_s=0.1) == ""


def test_a_busy_generator_says_that_it_was_the_limit() -> None:
    samples = samples_of([0.004] * 1000)
    samples.cpu_s = 9.9
    assert "99% of its core" in summarize(samples, 0.0).limit()


def test_early_stopping_is_above_the_percentile_and_comes_closer_with_more_queries() -> None:
    latencies = np.arange(1.0, 100_001.0)
    assert early_stopping(latencies, 0.90) / 100_000 == pytest.approx(0.9015, abs=0.0015)
    assert 0.91 < early_stopping(latencies[:1000], 0.90) / 1000 < 0.93


def test_early_stopping_holds_what_it_promises() -> None:
    rng = np.random.default_rng(0)
    below = sum(early_stopping(rng.random(200), 0.90) < 0.90 for _ in range(1000))
    assert below <= 25


def test_early_stopping_of_too_few_queries_is_infinite() -> None:
    assert early_stopping(np.ones(40), 0.90) == math.inf
    assert early_stopping(np.ones(64), 0.90) == 1.0


def test_lateness_of_the_generator_during_the_warm_up_does_not_count() -> None:
    samples = samples_of([0.004] * 1000)
    samples.lag.extend([0.003] * 200 + [0.0001] * 800)
    assert summarize(samples, 2.5).limit() == ""
