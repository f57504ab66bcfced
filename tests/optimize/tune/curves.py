"""Models whose cost is known: how long a batch takes, and so how many answers a second each candidate could give at best."""

from dataclasses import dataclass, field

import numpy as np

from foretell.optimize.tune.search import Look
from foretell.optimize.tune.space import Candidate

CPUS = 8


@dataclass
class Curve:
    """A batch of ``b`` rows takes ``fixed_s + b * row_s * (1 + b / crowded)``, by the variant's speed, spread over threads.

    ``serial`` is the share of the work that more threads do not speed up. Its clock moves by what is measured; each figure is
    off by ``noise`` (standard deviation, relative).
    """

    speeds: dict[str, float]
    fixed_s: float = 0.002
    row_s: float = 0.001
    crowded: float = 100.0
    serial: float = 0.3
    bound_s: float = 0.05
    noise: float = 0.0
    seed: int = 0
    now_s: float = 0.0
    looks: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = np.random.default_rng(self.seed)

    def clock(self) -> float:
        return self.now_s

    def batch_s(self, candidate: Candidate, rows: int) -> float:
        busy = min(1.0, CPUS / (candidate.workers * candidate.threads))
        work_s = self.fixed_s + rows * self.row_s * (1 + rows / self.crowded)
        return work_s * (self.serial + (1 - self.serial) / candidate.threads) / self.speeds[candidate.variant] / busy

    def best_rate(self, candidate: Candidate) -> float:
        """Of all loads whose answers take two batches at most: one that is under way, and one's own. Waiting is lost time."""
        rates = [
            candidate.workers * rows / (self.batch_s(candidate, rows) + candidate.max_wait_s)
            for rows in range(1, candidate.batch_rows + 1)
            if 2 * self.batch_s(candidate, rows) + candidate.max_wait_s <= self.bound_s
        ]
        return max(rates, default=0.0)

    def measure(self, candidate: Candidate, seconds: float) -> Look:
        self.now_s += seconds + 0.5
        rate = self.best_rate(candidate) * float(np.exp(self.noise / seconds**0.5 * self.dice.standard_normal()))
        slowest_s = 2 * self.batch_s(candidate, 1)
        self.looks.append(Look(candidate, seconds, met=rate > 0, rate=rate, clients=1, latency_s={"p99": slowest_s}))
        return self.looks[-1]
