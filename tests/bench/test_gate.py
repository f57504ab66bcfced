"""What the gate calls slower: judged from figures alone, without a server."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from gate import compare  # type: ignore[import-not-found]  # a script beside the package
from measure import Figure  # type: ignore[import-not-found]

TURNS = 8


def figures(rates: list[float], p50: float = 100.0) -> list[Figure]:
    return [Figure(rate, p50, 200.0, 300.0, 0.01, 1e8, 0.5, 0) for rate in rates]


def judge(tree: list[float], base: list[float], p50: tuple[float, float] = (100.0, 100.0)) -> list[str]:
    return list(compare("tiny-json-32c-1w", figures(tree, p50[0]), figures(base, p50[1])))


def test_the_same_is_not_slower() -> None:
    assert judge([100.0] * TURNS, [100.0] * TURNS) == []


@pytest.mark.parametrize(("tree", "verdict"), [(91.0, 0), (89.0, 1), (50.0, 1), (200.0, 0)])
def test_more_than_ten_percent_fewer_requests_a_second_fail(tree: float, verdict: int) -> None:
    assert len(judge([tree] * TURNS, [100.0] * TURNS)) == verdict


@pytest.mark.parametrize(("tree", "verdict"), [(109.0, 0), (112.0, 1), (50.0, 0)])
def test_a_median_more_than_ten_percent_longer_fails(tree: float, verdict: int) -> None:
    told = judge([100.0] * TURNS, [100.0] * TURNS, (tree, 100.0))
    assert len(told) == verdict
    assert all("p50 is 1.12 of the base" in text for text in told)


def test_a_busy_spell_that_meets_both_in_turn_is_no_slowdown() -> None:
    spell = [100.0, 100.0, 40.0, 40.0, 40.0, 100.0, 100.0, 100.0]
    assert judge(spell, spell) == []


def test_a_few_bad_turns_are_chance() -> None:
    assert judge([100.0] * 5 + [50.0] * 3, [100.0] * TURNS) == []
    assert judge([80.0] * 5 + [101.0] * 3, [100.0] * TURNS) == []  # the median is low, but 5 of 8 turns are not enough
    assert judge([80.0] * 6 + [101.0] * 2, [100.0] * TURNS) != []
