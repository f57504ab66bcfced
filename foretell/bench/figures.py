"""From samples to figures: percentiles, their confidence intervals, rates, and whether the generator was the limit.

Intervals are 95 % and come from a bootstrap of blocks: the time is cut into 20 windows, windows are drawn with replacement, and
the percentile is taken of what they hold. So neighbouring requests, which share their fate, are not taken for independent
ones. https://doi.org/10.1214/aos/1176347265
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foretell.bench.load import Samples
from foretell.bench.network import NEVER_SENT, NO_ANSWER

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
WINDOWS = 20
DRAWS = 400
BIN = 1.005  # the width of a bin of latencies, for intervals only
LEAST_S = 1e-6
MOST_LAG_S = 0.001
MOST_LAG_SHARE = 0.25
MOST_CPU = 0.95
IDLE_CPU = 0.1
CONFIDENCE = 0.99
UNANSWERED = frozenset({NO_ANSWER, NEVER_SENT})
LEAST_GOODPUT = 0.95
LEAST_WAITING = 10
GROWTH = 1.5  # of the latency, from the first fifth of the requests to the last: of a queue that grows all the time it is 3
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """What one load came to, without its warm-up.

    Latencies are in seconds, of good answers, and of requests that were never answered by how long they were waited for.
    ``intervals`` holds the 95 % interval of a percentile, where there are samples enough. ``rate`` counts good answers that
    came within the time; ``sent`` is the number of requests that were due. ``outcomes`` counts those without a good answer.
    ``lag_s`` is the 99th percentile of how late the generator itself was, ``cpu`` its share of one core.
    ``waiting`` requests had no answer yet when the time ended, the last of them for ``drained_s`` more; ``behind`` says that
    they are a queue which grew all the time.
    """

    sent: int
    good: int
    seconds: float
    rate: float
    latency_s: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    mean_s: float
    longest_s: float
    outcomes: Mapping[str, int] = field(default_factory=dict)
    lag_s: float = 0.0
    cpu: float = 0.0
    interrupted: bool = False
    waiting: int = 0
    drained_s: float = 0.0
    behind: bool = False

    @property
    def well_founded(self) -> list[str]:
        """The percentiles above which at least 10 requests lie."""
        return enough_for(self.sent - sum(count for outcome, count in self.outcomes.items() if outcome not in UNANSWERED))

    def limit(self, bound_s: float | None = None) -> str:
        """Why the figures tell of the generator and not of the server; "" when they do not.

        It must not be late by a quarter of the p99 that is told, or of the bound that is asked for.
        """
        if self.lag_s > max(MOST_LAG_S, MOST_LAG_SHARE * (bound_s or self.latency_s["p99"])):
            idle = ", kept from running by other work of this machine" if self.cpu < IDLE_CPU else ""
            return f"the generator was the limit: it was {self.lag_s * 1e3:.1f} ms late (p99){idle}"
        if self.cpu > MOST_CPU:
            return f"the generator was the limit: it used {self.cpu:.0%} of its core"
        return ""


def summarize(samples: Samples, warm_up_s: float) -> Figures:
    """The figures of all requests that were due after the warm-up."""
    due, took = np.array(samples.due), np.array(samples.took)
    ends = due + took
    kept = due >= warm_up_s
    failed = [(when, waited, outcome) for when, waited, outcome in samples.failed if when >= warm_up_s]
    lost = np.array([waited for _, waited, outcome in failed if outcome in UNANSWERED])
    latencies = np.concatenate([took[kept], lost])
    when = np.concatenate([due[kept], [each for each, _, outcome in failed if outcome in UNANSWERED]])
    seconds = max(samples.seconds - warm_up_s, 1e-9)
    early = len(due) + len(samples.failed) - int(kept.sum()) - len(failed)
    lag = np.array(samples.lag)[early:]  # in the order of sending, which is that of ``due``
    in_time = int(((ends >= warm_up_s) & (ends < samples.seconds)).sum())
    late = [
        *ends[ends >= samples.seconds],
        *(at + waited for at, waited, _ in samples.failed if at + waited >= samples.seconds),
    ]
    sent = int(kept.sum()) + len(failed)
    return Figures(
        sent=sent,
        good=int(kept.sum()),
        seconds=seconds,
        rate=in_time / seconds,
        latency_s=percentiles(latencies),
        intervals=intervals(when, latencies, warm_up_s, samples.seconds),
        mean_s=float(latencies.mean()) if len(latencies) else float("nan"),
        longest_s=float(latencies.max()) if len(latencies) else float("nan"),
        outcomes=dict(Counter(outcome for _, _, outcome in failed)),
        lag_s=float(np.percentile(lag, 99)) if len(lag) else 0.0,
        cpu=samples.cpu_s / samples.seconds if samples.seconds else 0.0,
        interrupted=samples.interrupted,
        waiting=len(late),
        drained_s=float(max(late)) - samples.seconds if late else 0.0,
        behind=in_time < LEAST_GOODPUT * sent
        and _is_queue(len(late), sent)
        and (any(outcome == NEVER_SENT for _, _, outcome in failed) or _grew(when, latencies)),
    )


def _is_queue(waiting: int, sent: int) -> bool:
    return waiting >= LEAST_WAITING and waiting > (1 - LEAST_GOODPUT) * sent


def _grew(when: Floats, latencies: Floats) -> bool:
    """Whether the last fifth of the requests took longer than the first: a slow server alone is as slow at the end."""
    fifths = np.array_split(latencies[np.argsort(when, kind="stable")], 5)
    return bool(len(fifths[0])) and float(np.median(fifths[-1])) > GROWTH * float(np.median(fifths[0]))


def percentiles(latencies: Floats) -> dict[str, float]:
    """By linear interpolation between neighbours, as ``numpy.percentile`` does it."""
    if not len(latencies):
        return dict.fromkeys(PERCENTILES, float("nan"))
    return dict(zip(PERCENTILES, map(float, np.percentile(latencies, list(PERCENTILES.values()))), strict=True))


def enough_for(count: int) -> list[str]:
    """The percentiles above which at least 10 of ``count`` samples lie."""
    return [name for name, share in PERCENTILES.items() if round(count * (100 - share) / 100, 6) >= 10]


def intervals(when: Floats, latencies: Floats, starts: float, ends: float) -> dict[str, tuple[float, float]]:
    """95 % intervals of the percentiles of which at least 10 samples lie above. Latencies are counted in bins of 0.5 %."""
    kept = {name: PERCENTILES[name] / 100 for name in enough_for(len(latencies))}
    if not kept or ends <= starts:
        return {}
    bins = (np.log(np.maximum(latencies, LEAST_S) / LEAST_S) / np.log(BIN)).astype(int)
    window = np.clip(((when - starts) / (ends - starts) * WINDOWS).astype(int), 0, WINDOWS - 1)
    counts = np.zeros((WINDOWS, int(bins.max()) + 1))
    np.add.at(counts, (window, bins), 1)
    draws = np.random.default_rng(0).multinomial(WINDOWS, [1 / WINDOWS] * WINDOWS, DRAWS)
    below = np.cumsum(draws @ counts, axis=1)
    found = {}
    for name, share in kept.items():
        at = (below < share * below[:, -1:]).sum(axis=1)
        low, high = np.percentile(LEAST_S * BIN ** (at + 0.5), (2.5, 97.5))
        found[name] = (float(low), float(high))
    return found


def early_stopping(latencies: Floats, share: float) -> float:
    """The latency that ``share`` of all requests stay below with 99 % confidence; infinite when there are too few.

    It is the k-th smallest, with the smallest k for which fewer than k of n requests lie below the true percentile at most with
    that confidence. https://github.com/mlcommons/inference_policies/blob/master/inference_rules.adoc
    """
    count = len(latencies)
    if not count:
        return float("inf")
    numbers = np.arange(count + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    chances = np.exp(logs[count] - logs - logs[::-1] + numbers * np.log(share) + (count - numbers) * np.log1p(-share))
    k = int(np.searchsorted(np.cumsum(chances), CONFIDENCE)) + 1
    return float(np.sort(latencies)[k - 1]) if k <= count else float("inf")
