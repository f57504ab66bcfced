"""The best candidates beside the default, in rounds that alternate: whether one is really better."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from foretell.optimize.tune.search import Look
from foretell.optimize.tune.space import Candidate

ROUNDS = 9
OUTLIERS = 1
"""The interval of the median of nine leaves out the smallest and the largest, so that one odd round on a busy machine does no
harm. It holds the true median in 1 - 2 * 10 / 512 of all cases, whatever the distribution: order statistics of a binomial."""
STEPS = 3
"""Loads of one look: the number of clients is known by now."""
MOST_APART = 3.0
"""Rounds of one candidate whose rates differ by more tell of the machine, not of the candidate."""


@dataclass
class Contender:
    """One candidate with its look of every round."""

    candidate: Candidate
    looks: list[Look] = field(default_factory=list)

    @property
    def met(self) -> bool:
        """In most rounds."""
        return sum(look.met for look in self.looks) * 2 > len(self.looks)

    @property
    def look(self) -> Look:
        """The middle one; those that missed the objective come before all others."""
        return sorted(self.looks, key=lambda look: look.merit)[len(self.looks) // 2]

    @property
    def missed(self) -> int:
        """Rounds in which the objective was not met."""
        return sum(not look.met for look in self.looks)

    @property
    def rate(self) -> float:
        """Answers/s that met the objective: the median of the rounds, of which one that missed it counts as 0."""
        return self.look.rate if self.met else 0.0

    @property
    def range(self) -> tuple[float, float]:
        """The least and the most answers/s of the rounds that met the objective; 0 and 0 where none did."""
        rates = [look.rate for look in self.looks if look.met] or [0.0]
        return min(rates), max(rates)


@dataclass(frozen=True)
class Final:
    """``best`` beside the ``default``, round by round."""

    contenders: Sequence[Contender]
    default: Contender
    best: Contender

    @property
    def ratios(self) -> list[float]:
        """How many times as many answers/s within the objective the best gave in each round, from the smallest on."""
        return sorted(_ratio(one, two) for one, two in zip(self.best.looks, self.default.looks, strict=True))

    @property
    def ratio(self) -> float:
        """The median; infinite where the default did not meet the objective."""
        return self.ratios[len(self.ratios) // 2]

    @property
    def interval(self) -> tuple[float, float]:
        """That of the median, 96 %."""
        return self.ratios[OUTLIERS], self.ratios[-1 - OUTLIERS]

    @property
    def better(self) -> bool:
        """Whether the best meets the objective and is better than the default by more than chance."""
        return self.best.met and self.best.candidate != self.default.candidate and self.interval[0] > 1.0

    @property
    def sentence(self) -> str:
        best, default = self.best, self.default
        if not best.met:
            return "nothing met the objective"
        if best.candidate == default.candidate:
            return f"nothing is better than the defaults, {default.rate:,.1f} answers/s"
        often = f"which met the objective in {ROUNDS - default.missed} of {ROUNDS} rounds"
        than = f"{default.rate:,.1f} answers/s" if default.met else often
        low, high = self.interval
        shown = f"{best.rate:,.1f} answers/s, {_times(self.ratio)} the defaults, {than} (96 %: {_times(low)} to {_times(high)})"
        return shown if self.better else f"{shown}: not surely better"

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against the figures of the best and the default: rounds that missed, and rounds far apart."""
        shown = {self.best.candidate: ("the best", self.best), self.default.candidate: ("the defaults", self.default)}
        return tuple(doubt for name, each in shown.values() for doubt in _doubts(name, each))


def _doubts(name: str, each: Contender) -> list[str]:
    found = [f"{name} missed the objective in {each.missed} of {len(each.looks)} rounds"] if each.missed else []
    low, high = each.range
    if high > MOST_APART * low:
        text = f"rounds of {name} went from {low:,.1f} to {high:,.1f} answers/s"
        found.append(f"{text}: the machine has other work, search again when it has none")
    return found


def compare(
    candidates: Sequence[Candidate],
    default: Candidate,
    look: Callable[[Candidate, float], Look],
    seconds: float,
    told: Callable[[Look], None],
) -> Final:
    """Rounds of looks of ``seconds`` in all; every second round goes the other way round."""
    contenders = [Contender(each) for each in dict.fromkeys([default, *candidates])]
    each_s = seconds / ROUNDS / len(contenders)
    for number in range(ROUNDS):
        for contender in contenders if number % 2 else reversed(contenders):
            contender.looks.append(look(contender.candidate, each_s))
            told(contender.looks[-1])
    best = max(contenders, key=lambda each: (each.look.merit, each.candidate == default))
    return Final(contenders, contenders[0], best)


def _ratio(one: Look, two: Look) -> float:
    mine, theirs = (look.rate if look.met else 0.0 for look in (one, two))
    if mine == theirs:
        return 1.0
    return mine / theirs if theirs else math.inf


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times" if math.isfinite(ratio) else "any number of times"
