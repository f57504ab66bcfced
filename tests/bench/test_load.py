"""Loads in simulated time: what is sent when, and that no request is forgotten."""

import numpy as np
import pytest

from foretell.bench.arrivals import constant, poisson
from foretell.bench.figures import summarize
from foretell.bench.load import Load
from foretell.errors import Unavailable
from foretell.testing import FakeClock

from .simulated import SimulatedLink, SimulatedNetwork


def quick(_: float) -> float:
    return 0.001


def test_poisson_arrivals_have_the_rate_and_the_spread_of_independent_callers() -> None:
    gaps = np.diff(poisson(1000.0, 100.0, seed=1))
    assert gaps.mean() == pytest.approx(0.001, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.02)
    counts = np.histogram(poisson(1000.0, 100.0, seed=2), bins=1000)[0]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.15)


def test_arrivals_lie_within_the_time_and_are_the_same_every_time() -> None:
    times = poisson(50.0, 10.0, seed=3)
    assert times.max() < 10.0
    assert (times == poisson(50.0, 10.0, seed=3)).all()
    assert not np.array_equal(times, poisson(50.0, 10.0, seed=4))


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert np.diff(constant(100.0, 2.0)) == pytest.approx(0.01)
    assert len(constant(100.0, 2.0)) == 200


def test_a_stall_of_a_second_is_seen_by_all_requests_that_were_due_meanwhile() -> None:
    network = SimulatedNetwork(FakeClock(), quick, stall=(5.0, 6.0))
    figures = summarize(Load(network).run_open(constant(100.0, 10.0).tolist(), 10.0), 0.0)
    assert figures.good == 1000
    assert figures.latency_s["p99"] > 0.85
    assert figures.latency_s["p50"] < 0.01


def test_a_closed_loop_by_contrast_sends_nothing_during_a_stall() -> None:
    network = SimulatedNetwork(FakeClock(), lambda _: 0.01, stall=(5.0, 6.0))
    figures = summarize(Load(network).run_closed(1, 10.0), 0.0)
    assert figures.latency_s["p99"] == pytest.approx(0.01)
    assert figures.longest_s == pytest.approx(1.01, abs=0.02)


def test_a_request_that_finds_no_free_connection_waits_and_its_wait_counts() -> None:
    network = SimulatedNetwork(FakeClock(), lambda _: 0.1)
    samples = Load(network).run_open([0.0, 0.0, 0.0], 1.0, most_links=1)
    assert sorted(samples.took) == pytest.approx([0.1, 0.2, 0.3])
    assert len(network.links) == 1


def test_as_many_clients_as_asked_for_are_in_flight_and_no_more() -> None:
    network = SimulatedNetwork(FakeClock(), quick)
    samples = Load(network).run_closed(7, 1.0)
    assert len(network.links) == 7
    assert np.median(np.array(samples.took)) == pytest.approx(0.007)


def test_refusals_are_counted_by_status_and_never_dropped() -> None:
    network = SimulatedNetwork(FakeClock(), lambda _: 0.02, most=1)
    figures = summarize(Load(network).run_open(constant(100.0, 10.0).tolist(), 10.0), 0.0)
    assert set(figures.outcomes) == {"429"}
    assert figures.good + figures.outcomes["429"] == figures.sent == 1000


def test_what_is_never_answered_is_given_up_and_counts_with_the_time_it_was_waited_for() -> None:
    network = SimulatedNetwork(FakeClock(), lambda at: 1e6 if at > 0.5 else 0.001)
    figures = summarize(Load(network, longest_s=2.0).run_open(constant(10.0, 1.0).tolist(), 1.0), 0.0)
    assert figures.sent == 10
    assert figures.outcomes["no answer"] == figures.sent - figures.good > 0
    assert figures.longest_s >= 2.0


def test_a_server_that_never_answers_ends_the_load_with_a_sentence() -> None:
    network = SimulatedNetwork(FakeClock(), lambda _: 1e6)
    with pytest.raises(Unavailable, match="no answer"):
        Load(network, longest_s=1.0).run_open(constant(200.0, 1.0).tolist(), 1.0)


def test_the_warm_up_is_left_out() -> None:
    network = SimulatedNetwork(FakeClock(), lambda at: 0.5 if at < 1.0 else 0.001)
    figures = summarize(Load(network).run_closed(1, 4.0), 2.0)
    assert figures.longest_s == pytest.approx(0.001)
    assert figures.seconds == pytest.approx(2.0)
    assert figures.rate == pytest.approx(1000, rel=0.01)


def test_ctrl_c_ends_a_load_with_the_figures_so_far() -> None:
    network = SimulatedNetwork(FakeClock(), quick)
    wait, network_wait = network.wait, []

    def interrupted(timeout_s: float) -> object:
        network_wait.append(timeout_s)
        if len(network_wait) > 500:
            raise KeyboardInterrupt
        return wait(timeout_s)

    network.wait = interrupted  # type: ignore[method-assign, assignment]
    samples = Load(network).run_closed(1, 1000.0)
    assert samples.interrupted
    assert len(samples.took) == pytest.approx(500, abs=2)
    assert samples.seconds < 1.0


def test_a_low_rate_counts_over_the_whole_time_and_not_up_to_the_last_answer() -> None:
    network = SimulatedNetwork(FakeClock(), quick)
    figures = summarize(Load(network).run_open([0.1, 0.2], 10.0), 0.0)
    assert figures.rate == pytest.approx(0.2)
    assert figures.cpu < 0.5


def test_a_time_without_a_request_is_no_work_of_the_generator() -> None:
    figures = summarize(Load(SimulatedNetwork(FakeClock(), quick)).run_open([], 10.0), 0.0)
    assert figures.sent == 0
    assert figures.limit() == ""


def test_a_rate_above_what_is_served_leaves_a_queue_that_grew() -> None:
    network = SimulatedNetwork(FakeClock(), lambda _: 0.01)
    figures = summarize(Load(network).run_open(constant(200.0, 10.0).tolist(), 10.0), 2.0)
    assert figures.behind
    assert figures.rate == pytest.approx(100, rel=0.02)
    assert figures.waiting == pytest.approx(1000, rel=0.02)
    assert figures.drained_s == pytest.approx(10.0, rel=0.02)


def test_a_server_that_is_only_slow_is_not_behind() -> None:
    class Slow(SimulatedNetwork):
        """Every request takes a second, however many there are."""

        def take(self, link: SimulatedLink) -> None:
            self.free_at = self.fake.now
            super().take(link)

    figures = summarize(Load(Slow(FakeClock(), lambda _: 1.0)).run_open(constant(100.0, 2.0).tolist(), 2.0), 0.4)
    assert figures.waiting == pytest.approx(100, abs=2)
    assert not figures.behind


def test_what_waits_too_long_for_a_connection_is_never_sent_and_the_load_goes_on() -> None:
    network = SimulatedNetwork(FakeClock(), lambda _: 0.01)
    figures = summarize(Load(network, longest_s=1.0).run_open(constant(1000.0, 3.0).tolist(), 3.0, most_links=10), 0.0)
    assert set(figures.outcomes) == {"never sent"}
    assert figures.good + figures.outcomes["never sent"] == figures.sent == 3000
    assert figures.good > 300
    assert figures.behind


def test_answers_that_stop_coming_do_not_make_the_server_unreachable() -> None:
    network = SimulatedNetwork(FakeClock(), lambda at: 0.01 if at < 1.0 else 1e6)
    figures = summarize(Load(network, longest_s=2.0).run_open(constant(300.0, 2.0).tolist(), 2.0), 0.0)
    assert figures.good > 50
    assert figures.outcomes["no answer"] > 100
