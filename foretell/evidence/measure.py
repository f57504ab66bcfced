"""How large and how fast models are, measured by turns in the same seconds, so that a busy machine slows all alike."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foretell.backends import Backend, describe, isolated_parts
from foretell.engine.warmup import fit_batches
from foretell.evidence.energy import find_meter
from foretell.evidence.graph import cost_of
from foretell.evidence.metrics import Interval
from foretell.evidence.progress import SILENT, Progress
from foretell.formats.onnx import external_locations
from foretell.settings import EngineSettings
from foretell.tensors import Arrays

AIMS = ("latency", "throughput", "size")
LEAST_ROUNDS, MOST_ROUNDS = 15, 250
ROUND_S = 0.003
"""Seconds of one model in one round, at least."""
UNDISTURBED, LEAST_KEPT = 0.9, 8
"""A call counts if its thread ran for this share of it; unless fewer calls than this did."""
BATCH_ROWS = 64
"""Rows at a time where throughput is measured: what the engine puts together by default."""


@dataclass(frozen=True)
class Figures:
    """Of one model. ``flops`` of one row, None where they cannot be counted; ``joules`` of one row in full batches.

    ``p50_1_s`` and ``p50_32_s`` are medians of forwards of 1 and of 32 rows, ``rows_per_s`` in batches of ``BATCH_ROWS``; a
    model whose rows disturb each other is run as it is served, row by row. ``busy``: the machine was, and seconds are those of
    the processor.
    """

    size_bytes: int
    parameters: int | None
    flops: int | None
    p50_1_s: float
    p50_32_s: float
    rows_per_s: float
    joules: float | None = None
    busy: bool = False


@dataclass(frozen=True)
class Call:
    """One forward: seconds on the clock, and those in which its thread had a processor."""

    seconds: float
    own_s: float


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
    subjects: Sequence[Subject], features: Arrays, timing_s: float, progress: Progress = SILENT
) -> tuple[list[Figures], Mapping[str, list[Gain]]]:
    """The figures of each, and by aim how many times better than the first each is. ``features``: rows that models take.

    ``timing_s``: about how long each model is timed at each batch size.
    """
    served = [Served.of(subject.model) for subject in subjects]
    times: dict[int, list[list[float]]] = {}
    joules: list[float | None] = []
    busy = [False] * len(subjects)
    for rows in (1, 32, BATCH_ROWS):
        rounds, joules = _by_turns(served, _batches(features, rows), timing_s, progress)
        found = [undisturbed(each, computes_here(subject.model)) for each, subject in zip(rounds, subjects, strict=True)]
        times[rows] = [medians for medians, _ in found]
        busy = [before or now for before, (_, now) in zip(busy, found, strict=True)]
    fixed = [_fixed(subject, features) for subject in subjects]
    figures = [
        replace(
            fixed[i],
            p50_1_s=statistics.median(times[1][i]),
            p50_32_s=statistics.median(times[32][i]),
            rows_per_s=BATCH_ROWS / statistics.median(times[BATCH_ROWS][i]),
            joules=joules[i],
            busy=busy[i],
        )
        for i in range(len(subjects))
    ]
    sizes = [[float(each.size_bytes)] * 2 for each in figures]
    series: dict[str, list[list[float]]] = {"latency": times[1], "throughput": times[BATCH_ROWS], "size": sizes}
    return figures, {aim: [_gain(times_of[0], each) for each in times_of] for aim, times_of in series.items()}


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
    served: Sequence[Served], batches: Sequence[Arrays], timing_s: float, progress: Progress
) -> tuple[list[list[list[Call]]], list[float | None]]:
    """Of each model the calls of each round, and joules of a row if they can be told."""
    meter = find_meter()
    rounds: list[list[list[Call]]] = [[] for _ in served]
    used: list[float | None] = [0.0 if meter.zones else None for _ in served]
    rows = len(next(iter(batches[0].values())))
    for each in served:
        each.forward(batches[0])  # what a runtime puts off to the first call
    started, ends = time.perf_counter(), timing_s * len(served)
    while len(rounds[0]) < LEAST_ROUNDS or (len(rounds[0]) < MOST_ROUNDS and time.perf_counter() - started < ends):
        progress.say(f"timing {rows} row{'s' * (rows > 1)}", min(1.0, (time.perf_counter() - started) / ends))
        for i, each in enumerate(served):
            before = meter.read_j()
            rounds[i].append(_timed(each, batches))
            spent = meter.between(before, meter.read_j())
            used[i] = None if spent is None or used[i] is None else (used[i] or 0.0) + spent
    counts = [sum(map(len, each)) * rows for each in rounds]
    joules = [None if each is None else each / count for each, count in zip(used, counts, strict=True)]
    return rounds, joules


def _timed(served: Served, batches: Sequence[Arrays]) -> list[Call]:
    found: list[Call] = []
    ends = time.perf_counter() + ROUND_S
    while not found or time.perf_counter() < ends:
        start, own = time.perf_counter(), time.thread_time()
        served.forward(batches[len(found) % len(batches)])
        found.append(Call(time.perf_counter() - start, time.thread_time() - own))
    return found


def undisturbed(rounds: Sequence[Sequence[Call]], here: bool) -> tuple[list[float], bool]:
    """The median seconds of each round's calls that had the processor to themselves; a round without any is left out.

    Where hardly a call had, seconds of the processor count for a model that computes ``here``, in the calling thread: that
    is told by True. Another model may compute elsewhere, and all its calls count.
    """
    calls = [call for each in rounds for call in each]
    alone = sum(map(_is_alone, calls)) >= LEAST_KEPT
    if here and not alone:
        return [statistics.median(call.own_s for call in each) for each in rounds], True
    kept = [[call.seconds for call in each if not alone or _is_alone(call)] for each in rounds]
    return [statistics.median(each) for each in kept if each], False


def computes_here(model: Backend) -> bool:
    """Whether a forward runs in the thread that calls it, and in no other."""
    return describe(model).get("threads") == "1" and not isolated_parts(model)


def _is_alone(call: Call) -> bool:
    return call.own_s >= UNDISTURBED * call.seconds


def _batches(features: Arrays, rows: int) -> list[Arrays]:
    """A few batches of other rows each; few rows are repeated."""
    count = len(next(iter(features.values())))
    starts = range(0, max(1, min(count, 16 * rows)), rows)
    places = [np.arange(start, start + rows) % count for start in starts]
    return [{name: np.ascontiguousarray(array[each]) for name, array in features.items()} for each in places]


def _gain(original: Sequence[float], other: Sequence[float]) -> Gain:
    """The ratio of the medians."""
    dice = np.random.default_rng(0)
    one, two = (np.median(dice.choice(each, (1000, len(each))), axis=1) for each in (original, other))
    low, high = np.percentile(one / two, [2.5, 97.5])
    return Gain(statistics.median(original) / statistics.median(other), (float(low), float(high)))


def _part(arrays: Arrays, start: int, stop: int) -> Arrays:
    return {name: array[start:stop] for name, array in arrays.items()}
