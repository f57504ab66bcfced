"""The knee and the four scenarios, against servers of known capacity in simulated time."""

import pytest

from foretell.bench.figures import Figures, summarize
from foretell.bench.load import Load, Samples
from foretell.bench.scenarios import run_scenario
from foretell.bench.session import Session, Wanted
from foretell.bench.sweep import Step, problem_of, sweep
from foretell.testing import FakeClock

from .simulated import SimulatedNetwork

pytestmark = pytest.mark.clocked


def nothing(step: Step) -> None: ...


def session(service_s: float, *, scenario: str | None = None, seconds: float = 20.0, slo_s: float = 0.1) -> Session:
    wanted = Wanted(where="http://127.0.0.1:1", scenario=scenario, seconds=seconds, slo_s=slo_s)
    return Session(wanted, lambda: SimulatedNetwork(FakeClock(), lambda _: service_s))


@pytest.mark.parametrize("capacity", [20.0, 200.0, 1000.0])
def test_the_knee_of_a_server_of_known_capacity_is_found(capacity: float) -> None:
    report = session(1 / capacity, slo_s=20 / capacity).run(nothing)
    assert report.sweep is not None
    assert report.sweep.knee is not None
    assert report.sweep.knee.rate == pytest.approx(capacity, rel=0.15)
    assert not report.problem


def test_every_step_of_a_sweep_is_told_as_it_ends() -> None:
    told: list[Step] = []
    report = session(0.005).run(told.append)
    assert report.sweep is not None
    assert told == report.sweep.steps
    assert any(step.problem for step in told)


def test_a_sweep_goes_down_when_the_first_rate_is_too_high() -> None:
    def load(rate: float) -> Figures:
        network = SimulatedNetwork(FakeClock(), lambda _: 0.1)
        times = [each / rate for each in range(int(rate * 20))]
        return summarize(Load(network, longest_s=1e4).run_open(times, 20.0), 1.0)

    found = sweep(load, 1000.0, 0.5, nothing)
    assert found.knee is not None
    assert found.knee.rate == pytest.approx(10.0, rel=0.2)


def test_a_server_that_turns_requests_away_is_past_its_knee_however_quick_it_is() -> None:
    connect = lambda: SimulatedNetwork(FakeClock(), lambda _: 0.005, most=2)  # noqa: E731
    report = Session(Wanted(where="http://127.0.0.1:1", seconds=20.0, slo_s=1.0), connect).run(nothing)
    assert report.sweep is not None
    assert report.sweep.knee is not None
    assert report.sweep.knee.rate < 120


def test_single_stream_has_one_query_at_a_time_and_tells_the_90th_percentile() -> None:
    verdict = run_scenario("single-stream", session(0.004, scenario="single-stream"), 0.1, nothing)
    assert verdict.value == pytest.approx(4.0)
    assert verdict.unit == "ms"
    assert "90%" in verdict.metric


def test_multi_stream_tells_the_99th_percentile() -> None:
    verdict = run_scenario("multi-stream", session(0.004, scenario="multi-stream"), 0.1, nothing)
    assert verdict.value == pytest.approx(4.0)
    assert "99% of the queries" in verdict.metric


def test_too_few_queries_for_a_scenario_are_no_result() -> None:
    verdict = run_scenario("multi-stream", session(0.1, scenario="multi-stream", seconds=5.0), 0.1, nothing)
    assert verdict.value == float("inf")


def test_the_server_scenario_tells_the_highest_poisson_rate_within_the_bound() -> None:
    verdict = run_scenario("server", session(0.005, scenario="server"), 0.1, nothing)
    assert verdict.value == pytest.approx(190, rel=0.15)
    assert verdict.unit == "queries/s"


def test_offline_counts_samples_not_queries() -> None:
    verdict = run_scenario("offline", session(0.01, scenario="offline"), 0.1, nothing)
    assert verdict.value == pytest.approx(100 * 64, rel=0.02)


def test_an_interrupted_load_is_not_relied_on() -> None:
    samples = Samples(seconds=1.0, interrupted=True)
    samples.due.append(0.5)
    samples.took.append(0.001)
    found = sweep(lambda rate: summarize(samples, 0.0), 10.0, 0.1, nothing)
    assert len(found.steps) == 1
    assert found.steps[0].problem == "interrupted"


def of_latency(took_s: float, rate: float, *, lag_s: float = 0.0, cpu: float = 0.0) -> Figures:
    samples = Samples(seconds=10.0, cpu_s=10.0 * cpu)
    count = max(round(rate * 10), 1)
    samples.due.extend(each / rate for each in range(count))
    samples.took.extend([took_s] * count)
    samples.lag.extend([lag_s] * count)
    return summarize(samples, 0.0)


def test_a_rate_that_failed_by_chance_is_tried_once_more() -> None:
    tried: list[float] = []

    def load(rate: float) -> Figures:
        tried.append(rate)
        return of_latency(0.001 if rate < 300 and len(tried) != 2 else 0.2, rate)

    found = sweep(load, 100.0, 0.1, nothing)
    assert tried[:4] == pytest.approx([100.0, 160.0, 160.0, 256.0])
    assert found.knee is not None
    assert found.knee.rate == pytest.approx(300, rel=0.05)
    assert [step.rate for step in found.rates] == sorted(set(tried))


def test_a_second_failure_counts() -> None:
    tried: list[float] = []

    def load(rate: float) -> Figures:
        tried.append(rate)
        return of_latency(0.001 if rate < 150 else 0.2, rate)

    sweep(load, 100.0, 0.1, nothing)
    assert tried[1:3] == pytest.approx([160.0, 160.0])
    assert tried[3] < 160


def test_a_bound_that_no_rate_can_keep_ends_the_sweep_at_once() -> None:
    found = sweep(lambda rate: of_latency(0.001, rate), 100.0, 0.00001, nothing)
    assert found.knee is None
    assert len(found.steps) == 1


def test_a_sweep_does_not_go_down_to_loads_without_requests() -> None:
    found = sweep(lambda rate: of_latency(2.0, rate), 100.0, 0.1, nothing)
    assert found.knee is None
    assert all(step.figures.sent >= 2 for step in found.steps)


def test_requests_that_were_slow_without_the_generators_lateness_are_not_blamed_on_it() -> None:
    assert problem_of(of_latency(0.2, 10.0, lag_s=0.03), 0.1) == "p99 is 200.0 ms"
    assert "generator" in problem_of(of_latency(0.11, 10.0, lag_s=0.03), 0.1)
    assert "generator" in problem_of(of_latency(0.2, 10.0, cpu=0.99), 0.1)
