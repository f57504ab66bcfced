"""The best candidates beside the default, in rounds that alternate: whether one is really better."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from foretell.optimize.tune.search import Look
from foretell.optimize.tune.space import Candidate

ROUNDS = 5
STUDENT = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t for a 95 % interval of a mean of so many values."""


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
        """That of the middle rate, among those that met the objective if most did."""
        kept = [look for look in self.looks if look.met == self.met]
        return sorted(kept, key=lambda look: look.rate)[len(kept) // 2]

    @property
    def rate(self) -> float:
        """Answers/s that met the objective: the median of the rounds; 0 where most did not meet it."""
        return self.look.rate if self.met else 0.0


@dataclass(frozen=True)
class Final:
    """``best`` beside the ``default``: how many times as many answers/s, with the 95 % interval of it over the rounds.

    Where the default does not meet the objective there is no ratio: it is None.
    """

    contenders: Sequence[Contender]
    default: Contender
    best: Contender
    ratio: float | None
    interval: tuple[float, float] | None

    @property
    def better(self) -> bool:
        """Whether the best meets the objective and is better than the default by more than chance.

        Where the default does not meet it in most rounds, the best must be better in every round: by chance 1 in 32.
        """
        if self.best.candidate == self.default.candidate or not self.best.met:
            return False
        if self.interval is not None:
            return self.interval[0] > 1.0
        pairs = zip(self.best.looks, self.default.looks, strict=True)
        return all(one.met and (not two.met or one.rate > two.rate) for one, two in pairs)

    @property
    def sentence(self) -> str:
        best, default = self.best, self.default
        if not best.met:
            return "nothing met the objective"
        if best.candidate == default.candidate:
            return "nothing is better than the defaults"
        if self.ratio is None or self.interval is None:
            often = f"the defaults met the objective in {sum(look.met for look in default.looks)} of {ROUNDS} rounds"
            return f"{best.rate:,.1f} answers/s, {often}" + ("" if self.better else ": the figures vary too much to say more")
        low, high = self.interval
        shown = f"{self.ratio:.2f} times the defaults' {default.rate:,.1f} answers/s (95 %: {low:.2f} to {high:.2f})"
        return shown if self.better else f"{shown}: not surely better than the defaults"


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
    return _final(contenders, contenders[0], best)


def _final(contenders: Sequence[Contender], default: Contender, best: Contender) -> Final:
    pairs = [(one, two) for one, two in zip(best.looks, default.looks, strict=True) if one.met and two.met and two.rate > 0]
    if not (best.met and default.met) or len(pairs) < 2:
        return Final(contenders, default, best, None, None)
    logs = [math.log(one.rate / two.rate) for one, two in pairs]
    mean, wide = statistics.fmean(logs), STUDENT[len(logs)] * statistics.stdev(logs) / len(logs) ** 0.5
    return Final(contenders, default, best, math.exp(mean), (math.exp(mean - wide), math.exp(mean + wide)))
