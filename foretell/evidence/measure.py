"""How large and how fast models are, measured by turns in the same seconds, so that a busy machine slows all alike."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foretell.backends import Backend
from foretell.engine.warmup import fit_batches
from foretell.evidence.energy import Meter, find_meter
from foretell.evidence.graph import cost_of
from foretell.evidence.metrics import Interval
from foretell.evidence.progress import SILENT, Progress
from foretell.formats.onnx import external_locations
from foretell.settings import EngineSettings
from foretell.tensors import Arrays

AIMS = ("latency", "throughput", "size")
LEAST_ROUNDS, MOST_ROUNDS = 15, 250
ROUND_S, ENOUGH_S = 0.003, 0.75
"""Seconds of one model at one batch size: in one round at least, and in all rounds about."""
BATCH_ROWS = 64
"""Rows at a time where throughput is measured: what the engine puts together by default."""


@dataclass(frozen=True)
class Figures:
    """Of one model. ``flops`` of one row, None where they cannot be counted; ``joules`` of one row in full batches.

    ``p50_1_s`` and ``p50_32_s`` are medians of forwards of 1 and of 32 rows, ``rows_per_s`` in batches of ``BATCH_ROWS``; a
    model whose rows disturb each other is run as it is served, row by row.
    """

    size_bytes: int
    parameters: int | None
    flops: int | None
    p50_1_s: float
    p50_32_s: float
    rows_per_s: float
    joules: float | None = None


@dataclass(frozen=True)
class Gain:
    """How many times better than the original, with the 95 % interval of its rounds' bootstrap."""

    ratio: float
    interval: Interval


@dataclass(frozen=True)
class Served:
    """A model that is called as the engine calls it: at most ``most_rows`` rows at a time."""

    model: Backend
    most_rows: int

    @classmethod
    def of(cls, model: Backend, rows: int = BATCH_ROWS) -> "Served":
        return cls(model, min(rows, fit_batches(EngineSettings(), (), model).max_batch_rows))

    def forward(self, features: Arrays) -> Arrays:
        count = len(next(iter(features.values())))
        if count <= self.most_rows:
            return self.model.forward(features)
        starts = range(0, count, self.most_rows)
        answers = [self.model.forward(_part(features, start, start + self.most_rows)) for start in starts]
        return {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}


@dataclass(frozen=True)
class Subject:
    """What is measured: a loaded model, and the file that it came from."""

    model: Backend
    path: Path


def measure(
    subjects: Sequence[Subject], features: Arrays, progress: Progress = SILENT
) -> tuple[list[Figures], Mapping[str, list[Gain]]]:
    """The figures of each, and by aim how many times better than the first each is. ``features``: rows that models take."""
    served = [Served.of(subject.model) for subject in subjects]
    meter = find_meter()
    times: dict[int, list[list[float]]] = {}
    joules: list[float | None] = []
    for rows in (1, 32, BATCH_ROWS):
        times[rows], joules = _by_turns(served, _batches(features, rows), meter, progress)
    fixed = [_fixed(subject, features) for subject in subjects]
    figures = [
        replace(
            fixed[i],
            p50_1_s=_typical(times[1][i]),
            p50_32_s=_typical(times[32][i]),
            rows_per_s=BATCH_ROWS / _typical(times[BATCH_ROWS][i]),
            joules=joules[i],
        )
        for i in range(len(subjects))
    ]
    sizes = [[float(each.size_bytes)] * 2 for each in figures]
    found: dict[str, list[list[float]]] = {"latency": times[1], "throughput": times[BATCH_ROWS], "size": sizes}
    return figures, {aim: [_gain(series[0], each) for each in series] for aim, series in found.items()}


def size_on_disk(path: Path) -> int:
    """Bytes of a model's file and, of an ONNX model, of its data files; of a folder, of all in it."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if path.suffix != ".onnx":
        return path.stat().st_size
    beside = set(external_locations(path.read_bytes()))
    return path.stat().st_size + sum((path.parent / each).stat().st_size for each in beside)


def _fixed(subject: Subject, features: Arrays) -> Figures:
    """What does not depend on time."""
    if subject.path.suffix != ".onnx":
        return Figures(size_on_disk(subject.path), None, None, 0.0, 0.0, 0.0)
    cost = cost_of(subject.path, _part(features, 0, 1))
    return Figures(size_on_disk(subject.path), cost.parameters, cost.flops, 0.0, 0.0, 0.0)


def _by_turns(
    served: Sequence[Served], batches: Sequence[Arrays], meter: Meter, progress: Progress
) -> tuple[list[list[float]], list[float | None]]:
    """Of each model the median seconds of a forward in each round, and joules of a row if they can be told."""
    medians: list[list[float]] = [[] for _ in served]
    used: list[float | None] = [0.0 if meter.zones else None for _ in served]
    calls = [0] * len(served)
    rows = len(next(iter(batches[0].values())))
    for each in served:
        each.forward(batches[0])  # what a runtime puts off to the first call
    started, ends = time.perf_counter(), ENOUGH_S * len(served)
    while len(medians[0]) < LEAST_ROUNDS or (len(medians[0]) < MOST_ROUNDS and time.perf_counter() - started < ends):
        progress.say(f"timing {rows} row{'s' * (rows > 1)}", min(1.0, (time.perf_counter() - started) / ends))
        for i, each in enumerate(served):
            before = meter.read_j()
            seconds = _timed(each, batches)
            spent = meter.between(before, meter.read_j())
            medians[i].append(statistics.median(seconds))
            calls[i] += len(seconds)
            used[i] = None if spent is None or used[i] is None else (used[i] or 0.0) + spent
    return medians, [None if each is None else each / (count * rows) for each, count in zip(used, calls, strict=True)]


def _timed(served: Served, batches: Sequence[Arrays]) -> list[float]:
    found: list[float] = []
    ends = time.perf_counter() + ROUND_S
    while not found or time.perf_counter() < ends:
        start = time.perf_counter()
        served.forward(batches[len(found) % len(batches)])
        found.append(time.perf_counter() - start)
    return found


def _batches(features: Arrays, rows: int) -> list[Arrays]:
    """A few batches of other rows each; few rows are repeated."""
    count = len(next(iter(features.values())))
    starts = range(0, max(1, min(count, 16 * rows)), rows)
    places = [np.arange(start, start + rows) % count for start in starts]
    return [{name: np.ascontiguousarray(array[each]) for name, array in features.items()} for each in places]


def _typical(medians: Sequence[float]) -> float:
    return statistics.median(medians)


def _gain(original: Sequence[float], other: Sequence[float]) -> Gain:
    """The ratio of the medians; rounds are drawn in pairs, as both models were as busy in one."""
    pairs = np.array([original, other])
    draws = np.random.default_rng(0).integers(0, pairs.shape[1], (1000, pairs.shape[1]))
    one, two = np.median(pairs[:, draws], axis=2)
    low, high = np.percentile(one / two, [2.5, 97.5])
    return Gain(_typical(original) / _typical(other), (float(low), float(high)))


def _part(arrays: Arrays, start: int, stop: int) -> Arrays:
    return {name: array[start:stop] for name, array in arrays.items()}
