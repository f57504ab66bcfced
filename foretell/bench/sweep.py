"""Finds the knee: the highest rate at which the slowest 1 % of the requests are quick enough, and none is turned away."""

from collections.abc import Callable
from dataclasses import dataclass, field

from foretell.bench.figures import Figures

FASTER = 1.6
BISECTIONS = 4
MOST_STEPS = 24
LEAST_GOODPUT = 0.95
LEAST_RATE = 0.1


@dataclass(frozen=True)
class Step:
    """One rate that was tried. ``problem`` says in words why it is too high; "" when it is not."""

    rate: float
    figures: Figures
    problem: str


@dataclass
class Sweep:
    """All rates that were tried, in the order of trying. ``knee`` is the highest good one; None when not even the first was."""

    slo_s: float
    steps: list[Step] = field(default_factory=list)

    @property
    def knee(self) -> Step | None:
        return max((step for step in self.steps if not step.problem), key=lambda step: step.rate, default=None)

    @property
    def lowest_bad(self) -> Step | None:
        knee = self.knee
        bad = [step for step in self.steps if step.problem and (knee is None or step.rate > knee.rate)]
        return min(bad, key=lambda step: step.rate, default=None)


def sweep(load: Callable[[float], Figures], first: float, slo_s: float, shown: Callable[[Step], None]) -> Sweep:
    """Raise the rate from ``first`` until it is too high, then close in on the knee between good and bad.

    ``load`` runs an open load at a rate and gives its figures; ``shown`` is told each step as it ends.
    """
    found = Sweep(slo_s)

    def step(rate: float) -> bool:
        figures = load(rate)
        found.steps.append(Step(rate, figures, problem_of(figures, slo_s)))
        shown(found.steps[-1])
        return not found.steps[-1].problem

    rate = first
    while step(rate) and len(found.steps) < MOST_STEPS and not found.steps[-1].figures.interrupted:
        rate *= FASTER
    while found.knee is None and rate > LEAST_RATE and len(found.steps) < MOST_STEPS and not _stopped(found):
        rate /= FASTER**2
        step(rate)
    for _ in range(BISECTIONS):
        good, bad = found.knee, found.lowest_bad
        if good is None or bad is None or _stopped(found):
            break
        step((good.rate * bad.rate) ** 0.5)
    return found


def problem_of(figures: Figures, slo_s: float) -> str:
    """Why a rate is too high; "" when it is not."""
    if figures.interrupted:
        return "interrupted"
    if limit := figures.limit(slo_s):
        return limit
    if not figures.good:
        return "no good answer"
    asked = figures.sent / figures.seconds
    if figures.rate < LEAST_GOODPUT * asked:
        return f"only {figures.rate / asked:.0%} were answered well in time"
    if figures.latency_s["p99"] > slo_s:
        return f"p99 is {figures.latency_s['p99'] * 1e3:,.1f} ms"
    return ""


def _stopped(found: Sweep) -> bool:
    """Whether it is of no use to go on: somebody pressed Ctrl-C."""
    return bool(found.steps) and found.steps[-1].figures.interrupted
