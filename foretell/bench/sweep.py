"""Finds the knee: the highest rate at which the slowest 1 % of the requests are quick enough, and none is turned away."""

from collections.abc import Callable
from dataclasses import dataclass, field

from foretell.bench.figures import LEAST_GOODPUT, MOST_CPU, Figures

FASTER = 1.6
BISECTIONS = 4
MOST_STEPS = 24
LEAST_RATE = 0.1
LEAST_REQUESTS = 2  # of a load: with fewer, there is nothing to learn from it
IDLE = 0.5  # requests in flight: a server that has no more waits for none, and is not quicker at a lower rate


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

    @property
    def rates(self) -> list[Step]:
        """The last try of each rate, from the lowest rate to the highest."""
        return sorted({step.rate: step for step in self.steps}.values(), key=lambda step: step.rate)

    @property
    def no_use(self) -> bool:
        """Whether no lower rate can be good: half of the requests took too long, and few ever met another one."""
        last = self.steps[-1]
        p50 = last.figures.latency_s["p50"]
        return p50 > self.slo_s and last.rate * p50 < IDLE


def sweep(load: Callable[[float], Figures], first: float, slo_s: float, shown: Callable[[Step], None]) -> Sweep:
    """Raise the rate from ``first`` until it is too high, then close in on the knee between good and bad.

    A rate that was too high is tried once more before it is believed: on a busy machine one load may be slow by chance.
    ``load`` runs an open load at a rate and gives its figures; ``shown`` is told each step as it ends.
    """
    found = Sweep(slo_s)

    def step(rate: float) -> bool:
        return _try(rate) or (not found.no_use and not _stopped(found) and _try(rate))

    def _try(rate: float) -> bool:
        figures = load(rate)
        found.steps.append(Step(rate, figures, problem_of(figures, slo_s)))
        shown(found.steps[-1])
        return not found.steps[-1].problem

    rate = first
    while step(rate) and len(found.steps) < MOST_STEPS:
        rate *= FASTER
    while found.knee is None and _goes_down(found) and len(found.steps) < MOST_STEPS:
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
    if not figures.sent:
        return "no request fell into the time"
    slow = f"p99 is {figures.latency_s['p99'] * 1e3:,.1f} ms" if figures.latency_s["p99"] > slo_s else ""
    if figures.latency_s["p50"] - figures.lag_s > slo_s and figures.cpu < MOST_CPU:
        return slow  # it took too long without the generator's lateness, too
    return figures.limit(slo_s) or _loss_of(figures) or slow


def _loss_of(figures: Figures) -> str:
    if not figures.good:
        return "no good answer"
    asked = figures.sent / figures.seconds
    return f"only {figures.rate / asked:.0%} were answered well in time" if figures.rate < LEAST_GOODPUT * asked else ""


def _stopped(found: Sweep) -> bool:
    """Whether it is of no use to go on: somebody pressed Ctrl-C."""
    return found.steps[-1].figures.interrupted


def _goes_down(found: Sweep) -> bool:
    """Whether a lower rate than the last may be good, and sends requests enough to tell."""
    last = found.steps[-1]
    lower = last.rate / FASTER**2
    return not _stopped(found) and not found.no_use and lower > LEAST_RATE and lower * last.figures.seconds >= LEAST_REQUESTS
