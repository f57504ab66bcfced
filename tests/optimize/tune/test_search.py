"""The search alone, on models of known cost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from foretell.errors import Setup
from foretell.optimize.tune.search import Search, rounds
from foretell.optimize.tune.space import Candidate, Option, Space, placements
from tests.optimize.tune.curves import CPUS, Curve

DEFAULT = Candidate(1, "slow", 1, 64)


def search_of(curve: Curve, seconds: float = 600.0) -> Search:
    options = [Option(name) for name in curve.speeds]
    waits = (0.0, curve.bound_s / 20, curve.bound_s / 4)
    space = Space(options, placements(CPUS), waits_s=waits)
    return Search(space, curve.measure, curve.clock, seconds, least_s=0.5, between_s=0.5)


def best_of(search: Search, curve: Curve) -> float:
    return max(map(curve.best_rate, search.space.whole()))


@settings(max_examples=60, deadline=None)
@given(
    fixed_ms=some.floats(0.01, 20),
    row_ms=some.floats(0.01, 5),
    crowded=some.floats(4, 1000),
    serial=some.floats(0, 1),
    speeds=some.lists(some.floats(0.3, 3), min_size=1, max_size=3),
    bound_ms=some.floats(10, 500),
)
def test_it_finds_nine_tenths_of_the_best_whatever_the_cost(
    fixed_ms: float, row_ms: float, crowded: float, serial: float, speeds: list[float], bound_ms: float
) -> None:
    named = {"slow": 1.0, **{f"other {number}": speed for number, speed in enumerate(speeds)}}
    curve = Curve(named, fixed_ms / 1e3, row_ms / 1e3, crowded, serial, bound_ms / 1e3)
    search = search_of(curve)
    found = search.run(lambda look: None, DEFAULT)
    assert max(map(curve.best_rate, found)) >= 0.9 * best_of(search, curve)


@pytest.mark.parametrize("seed", range(20))
def test_noise_of_five_percent_costs_less_than_a_tenth(seed: int) -> None:
    curve = Curve({"slow": 1.0, "quick": 1.6, "quicker": 1.8}, fixed_s=0.004, crowded=30.0, noise=0.05, seed=seed)
    search = search_of(curve)
    found = search.run(lambda look: None, DEFAULT)
    assert max(map(curve.best_rate, found)) >= 0.9 * best_of(search, curve)


def test_the_same_looks_give_the_same_result() -> None:
    def once() -> tuple[list[Candidate], list[float]]:
        curve = Curve({"slow": 1.0, "quick": 1.6}, noise=0.1, seed=3)
        return search_of(curve).run(lambda look: None, DEFAULT), [look.seconds for look in curve.looks]

    assert once() == once()


def test_every_candidate_is_looked_at_and_the_better_third_for_longer() -> None:
    curve = Curve({"slow": 1.0, "quick": 1.6})
    search = search_of(curve)
    search.run(lambda look: None, DEFAULT)
    first = search.space.coarse()
    assert {look.candidate for look in curve.looks[: len(first)]} >= set(first) - {DEFAULT}
    assert curve.looks[len(first) + 1].seconds > 2 * curve.looks[0].seconds


def test_it_keeps_to_its_time() -> None:
    curve = Curve({"slow": 1.0, "quick": 1.6})
    search = search_of(curve, seconds=200.0)
    search.run(lambda look: None, DEFAULT)
    assert curve.now_s <= 0.7 * 200.0 + 5.0


def test_looks_that_take_longer_than_thought_end_the_search_in_time_all_the_same() -> None:
    curve = Curve({"slow": 1.0, "quick": 1.6})

    def slowly(candidate: Candidate, seconds: float) -> object:
        curve.now_s += 30.0
        return curve.measure(candidate, seconds)

    found = Search(search_of(curve).space, slowly, curve.clock, 300.0, 0.5, 0.5).run(lambda look: None, DEFAULT)  # type: ignore[arg-type]
    assert found
    assert curve.now_s <= 2.0 * 300.0 + 100.0


def test_too_little_time_is_refused_with_the_time_that_is_needed() -> None:
    search = search_of(Curve({"slow": 1.0, "quick": 1.6}), seconds=3.0)
    with pytest.raises(Setup, match=rf"takes {search.needed_s:.0f} s in all, --seconds is 3") as refused:
        search.check()
    assert refused.value.code == "short_budget"


def test_where_nothing_meets_the_objective_the_nearest_come_first() -> None:
    curve = Curve({"slow": 1.0, "quick": 1.6}, bound_s=0.0001)
    best = search_of(curve).run(lambda look: None, DEFAULT)[0]
    assert best.variant == "quick"
    assert best.threads == CPUS


@given(some.integers(1, 100_000))
def test_rounds_end(count: int) -> None:
    assert 1 <= rounds(count) <= 12


@given(some.integers(1, 256))
def test_placements_use_no_more_than_the_cpus(cpus: int) -> None:
    found = placements(cpus)
    assert (1, 1) in found
    assert (1, cpus) in found
    assert (cpus, 1) in found
    assert all(workers * threads <= cpus for workers, threads in found)


def test_a_variant_whose_rows_do_not_share_a_batch_is_served_row_by_row() -> None:
    space = Space([Option("dynamic", batches=False)], [(1, 1)], waits_s=(0.0, 0.01))
    assert space.whole() == [Candidate(1, "dynamic", 1, 1)]
    assert space.near(Candidate(1, "dynamic", 1, 1)) == []
