"""The best beside the default, in rounds."""

import itertools
from collections.abc import Sequence

import pytest

from foretell.optimize.tune.search import Look
from foretell.optimize.tune.space import Candidate
from foretell.optimize.tune.verdict import ROUNDS, Final, compare

DEFAULT, OTHER = Candidate(1, "slow", 1, 64), Candidate(1, "quick", 1, 64)


def final(of_default: Sequence[float], of_other: Sequence[float]) -> Final:
    """Looks of these rates, round by round and round again; 0 where the objective was not met."""
    rates = {DEFAULT: itertools.cycle(of_default), OTHER: itertools.cycle(of_other)}

    def look(candidate: Candidate, seconds: float) -> Look:
        rate = next(rates[candidate])
        return Look(candidate, seconds, met=rate > 0, rate=rate or 5.0, clients=1, latency_s={"p99": 0.01 if rate else 9.0})

    return compare([OTHER], DEFAULT, look, 18.0, lambda look: None)


def test_what_is_better_in_every_round_is_better() -> None:
    found = final([100.0], [150.0])
    assert found.better
    assert found.ratio == 1.5
    assert "1.50 times the defaults" in found.sentence


def test_one_odd_round_does_no_harm() -> None:
    assert final([100.0], [120.0] * (ROUNDS - 1) + [10.0]).better
    assert final([100.0], [120.0] * (ROUNDS - 1) + [0.0]).better


def test_what_is_better_on_the_whole_but_not_surely_is_not_written() -> None:
    found = final([100.0, 90.0, 110.0], [105.0, 106.0, 99.0])
    assert not found.better
    assert found.sentence.endswith("not surely better")


def test_equal_ones_leave_the_default() -> None:
    found = final([100.0], [100.0])
    assert found.best.candidate == DEFAULT
    assert "nothing is better than the defaults" in found.sentence


def test_a_default_that_does_not_meet_the_objective_is_beaten_by_what_does() -> None:
    found = final([0.0], [50.0])
    assert found.better
    assert f"met the objective in 0 of {ROUNDS} rounds" in found.sentence


def test_what_meets_the_objective_now_and_then_is_not_better_than_the_default_that_does_so_too() -> None:
    assert not final([0.0, 50.0], [60.0, 0.0, 0.0]).better


def test_where_nothing_meets_the_objective_nothing_is_better() -> None:
    found = final([0.0], [0.0])
    assert not found.better
    assert found.sentence == "nothing met the objective"


def test_rounds_go_one_way_and_the_other_by_turns() -> None:
    order: list[Candidate] = []

    def look(candidate: Candidate, seconds: float) -> Look:
        order.append(candidate)
        assert seconds == pytest.approx(1.0)
        return Look(candidate, seconds, met=True, rate=1.0, latency_s={"p99": 0.01})

    compare([OTHER], DEFAULT, look, 2.0 * ROUNDS, lambda look: None)
    assert order[:4] == [OTHER, DEFAULT, DEFAULT, OTHER]


def test_a_round_that_missed_counts_as_none_in_the_figure_of_a_candidate_and_is_told() -> None:
    found = final([0.0, 0.0, 0.0, 0.0, 100.0, 110.0, 120.0, 130.0, 140.0], [0.0])
    assert found.default.rate == 100.0
    assert found.doubts == (f"the defaults missed the objective in 4 of {ROUNDS} rounds",)


def test_rounds_far_apart_cast_doubt_on_the_machine() -> None:
    found = final([100.0], [150.0] * (ROUNDS - 1) + [30.0])
    assert "rounds of the best went from 30.0 to 150.0 answers/s: the machine has other work" in found.doubts[0]
    assert final([100.0], [150.0] * (ROUNDS - 1) + [60.0]).doubts == ()
