"""The four scenarios of MLPerf Inference: how each sends queries, and the one figure that is its result.

https://github.com/mlcommons/inference_policies/blob/master/inference_rules.adoc ; docs/bench.md lists what is done otherwise.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foretell.backends import is_thread_safe
from foretell.bench.bodies import Model, make_rows
from foretell.bench.figures import Figures, early_stopping
from foretell.bench.load import Samples
from foretell.bench.sweep import Step, Sweep, sweep
from foretell.cpus import usable_cpus
from foretell.pipeline import Pipeline

SAMPLES_OF_MULTI_STREAM = 8
OFFLINE_CLIENTS = 32
OFFLINE_ROWS = 64
SINGLE_STREAM, MULTI_STREAM, SERVER, OFFLINE = SCENARIOS = ("single-stream", "multi-stream", "server", "offline")
SHARES = {SINGLE_STREAM: 0.90, MULTI_STREAM: 0.99}
ROWS = {SINGLE_STREAM: 1, MULTI_STREAM: SAMPLES_OF_MULTI_STREAM, SERVER: 1, OFFLINE: OFFLINE_ROWS}
"""Samples of a query: of one request."""


@dataclass(frozen=True)
class Verdict:
    """The result of a scenario: its figure, in ``unit``; what it is, in words; and the loads behind it."""

    scenario: str
    metric: str
    value: float
    unit: str
    figures: Figures | None = None
    sweep: Sweep | None = None


class Loads(Protocol):
    """What a scenario needs of the load generator."""

    def closed(self, clients: int) -> tuple[Figures, Samples]: ...

    def open(self, rate: float) -> Figures: ...

    @property
    def warm_up_s(self) -> float: ...


def run_scenario(scenario: str, loads: Loads, slo_s: float, shown: Callable[[Step], None]) -> Verdict:
    """Run one scenario against a server."""
    if scenario == SERVER:
        found = sweep(loads.open, first_rate(loads), slo_s, shown)
        rate = found.knee.rate if found.knee else float("nan")
        metric = f"highest Poisson rate with p99 of at most {slo_s * 1e3:g} ms"
        return Verdict(scenario, metric, rate, "queries/s", found.knee.figures if found.knee else None, found)
    if scenario == OFFLINE:
        figures, _ = loads.closed(OFFLINE_CLIENTS)
        return Verdict(scenario, "throughput", figures.rate * OFFLINE_ROWS, "samples/s", figures)
    figures, samples = loads.closed(1)
    share = SHARES[scenario]
    took = np.array([took for due, took in zip(samples.due, samples.took, strict=True) if due >= loads.warm_up_s])
    value = early_stopping(took, share)
    metric = f"{share:.0%} of the queries stay below, with 99 % confidence"
    return Verdict(scenario, metric, value * 1e3, "ms", figures)


def first_rate(loads: Loads) -> float:
    """Half of what one client alone gets answered a second: where a sweep starts."""
    figures, _ = loads.closed(1)
    return max(0.5 * figures.rate, 1.0)


def run_offline(
    pipeline: Pipeline, seconds: float, warm_up_s: float, clock: Callable[[], float] = time.perf_counter
) -> Verdict:
    """Rows a second of a model in this process, called in batches from as many threads as it allows and there are CPUs."""
    signature = pipeline.signature
    inputs = [
        {"name": each.name, "datatype": str(each.dtype), "shape": _shape(each.shape, signature.rows)}
        for each in signature.inputs
    ]
    batch = make_rows(Model("", inputs), OFFLINE_ROWS, 1)[0]
    threads = usable_cpus() if is_thread_safe(pipeline.model) else 1
    starts = clock() + warm_up_s

    def work(_: int) -> int:
        done = 0
        while (now := clock()) < starts + seconds:
            pipeline(batch)
            done += OFFLINE_ROWS if now >= starts and clock() < starts + seconds else 0
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(work, range(threads)))
    rows = done if signature.rows else done / OFFLINE_ROWS
    return Verdict(
        OFFLINE, f"throughput in this process, {threads} threads, {OFFLINE_ROWS} rows a call", rows / seconds, "samples/s"
    )


def _shape(shape: tuple[int | None, ...], rows: bool) -> list[int]:
    return [*([-1] if rows else []), *(-1 if size is None else size for size in shape)]
