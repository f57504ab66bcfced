"""Successive halving: every candidate gets a short look, the best third a look three times as long, and so on.

It knows nothing of servers: ``measure`` looks at a candidate for so many seconds. The same looks give the same result.
https://proceedings.mlr.press/v51/jamieson16.html
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from foretell.errors import Setup
from foretell.optimize.tune.space import Candidate, Space, show_count

KEPT = 3
"""Of so many candidates one goes on."""
REFINED = 2
"""So many of the best have what is near them looked at too."""
FINALISTS = 2
LOOKS = 0.7
"""Of the time: for looks. The rest is for the best beside the default."""
FIRST_ROUND = 0.8
"""A first round, in which everything is looked at, may take so much of its share."""
OVERTIME = 2.0
"""So many times the whole time the first round may take on a machine that is slower than thought: each gets its look."""


@dataclass(frozen=True)
class Look:
    """What one look at a candidate came to: the most answers/s that met the objective, sent by so many ``clients``.

    ``latency_s`` holds percentiles at that load; where nothing met it, those of the lightest load, and ``rate`` is theirs.
    ``joules`` are those of one answer, where they can be measured; ``problem`` says why there is no figure.
    """

    candidate: Candidate
    seconds: float
    met: bool
    rate: float
    clients: int = 0
    latency_s: dict[str, float] = field(default_factory=dict)
    joules: float | None = None
    problem: str = ""

    @property
    def merit(self) -> tuple[bool, float]:
        """The larger the better: what meets the objective by its rate, else how near it came."""
        slowest = max(self.latency_s.values(), default=math.inf)
        return self.met, self.rate if self.met else -slowest


Measure = Callable[[Candidate, float], Look]


@dataclass(frozen=True)
class Search:
    """What a search is made of. ``least_s`` is the shortest look, ``between_s`` what one costs beside; ``clock`` in seconds."""

    space: Space
    measure: Measure
    clock: Callable[[], float]
    budget_s: float
    least_s: float = 1.0
    between_s: float = 1.0

    @property
    def share(self) -> float:
        """Of the time for looks: that for the coarse candidates, by their number beside that of those near the best.

        The default is looked at beside them.
        """
        coarse = self.space.coarse()
        near = REFINED * max(len(self.space.near(each)) for each in coarse)
        return (len(coarse) + 1) / (len(coarse) + 1 + near)

    @property
    def needed_s(self) -> float:
        """The least time of all, in which every candidate of the first round can be looked at."""
        return (len(self.space.coarse()) + 1) * (self.least_s + self.between_s) / LOOKS

    @property
    def wanted_s(self) -> float:
        """A time that leaves room for rounds after the first."""
        return self.needed_s / (FIRST_ROUND * self.share)

    def check(self) -> int:
        """The number of candidates to begin with. Raises Setup ``short_budget`` when not each of them can be looked at."""
        count = len(self.space.coarse())
        if self.budget_s < self.needed_s:
            text = f"one look at each of {show_count(count)} takes {self.needed_s:.0f} s in all, --seconds is {self.budget_s:g}"
            raise Setup("short_budget", f"{text}: give more time, or fewer with --workers, --threads, --batch-rows or --only")
        return count

    def run(self, told: Callable[[Look], None], default: Candidate) -> list[Candidate]:
        """The best candidates, best first, at most ``FINALISTS``; ``told`` gets every look as it ends."""
        ends = self.clock() + LOOKS * self.budget_s
        first = [default, *(each for each in self.space.coarse() if each != default)]
        soon = ends - (1 - self.share) * LOOKS * self.budget_s
        latest = ends + (OVERTIME - LOOKS) * self.budget_s
        looks = {look.candidate: look for look in self.halve(first, soon, told, first_until=latest)}
        best = [look.candidate for look in ranked(list(looks.values()))[:REFINED]]
        fresh = [near for each in best for near in self.space.near(each) if near not in looks]
        if fresh:
            looks |= {look.candidate: look for look in self.halve(list(dict.fromkeys([*best, *fresh])), ends, told)}
        return [look.candidate for look in ranked(_surviving(looks))[:FINALISTS]]

    def halve(
        self, candidates: Sequence[Candidate], ends: float, told: Callable[[Look], None], first_until: float | None = None
    ) -> list[Look]:
        """The last look at each candidate, in their order.

        The rounds share the time alike; what is left when it is up is not looked at. The first round may take longer.
        """
        looks: dict[Candidate, Look] = {}
        going, until = list(candidates), first_until or ends
        for rounds_left in range(rounds(len(going)), 0, -1):
            share_s = max(ends - self.clock(), 0.0) / rounds_left / len(going)
            seconds = max(share_s - self.between_s, self.least_s)
            for candidate in going:
                if looks and self.clock() + self.least_s > until:
                    break
                looks[candidate] = self.measure(candidate, seconds)
                told(looks[candidate])
            until = ends
            looked_at = ranked([looks[each] for each in going if each in looks])
            going = [look.candidate for look in looked_at[: math.ceil(len(going) / KEPT)]]
        return list(looks.values())


def rounds(count: int) -> int:
    """Rounds until no more than ``FINALISTS`` are left."""
    return 1 if count <= FINALISTS else 1 + rounds(math.ceil(count / KEPT))


def ranked(looks: Sequence[Look]) -> list[Look]:
    """Best first; of equal ones the first in order, so that chance decides nothing."""
    return sorted(looks, key=lambda look: (look.merit, look.seconds), reverse=True)


def _surviving(looks: dict[Candidate, Look]) -> list[Look]:
    """Those that were looked at longest: a short look may be lucky."""
    longest = max(look.seconds for look in looks.values())
    return [look for look in looks.values() if look.seconds >= longest / KEPT]
