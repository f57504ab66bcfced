"""What a run will take, told from a few seconds of it: nothing is written."""

import contextlib
import io
import itertools
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foretell.modes.files.compute import Computer, Result
from foretell.modes.files.formats import open_reader, open_writer
from foretell.modes.files.rows import Sheet
from foretell.modes.files.run import last_of, source_of
from foretell.modes.files.shard import Shard, Work
from foretell.modes.files.window import in_order
from foretell.pipeline import Pipeline
from foretell.settings import PredictSettings

SAMPLE_S = 3.0
POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Forecast:
    """What ``rows`` of an input will take, as far as ``sampled`` of them tell; ``bad`` of those failed.

    Rows that are not chosen are in neither: about ``passed_over`` of them are read besides. ``why``: of the last bad row.
    ``memory_bytes`` is the most that this process has held; cost and energy are None where no price, or no power, is known.
    """

    rows: int
    sampled: int
    bad: int
    passed_over: int
    rows_per_s: float
    seconds: float
    memory_bytes: int
    cost: float | None
    joules: float | None
    why: str = ""

    def facts(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def measure(
    pipeline: Pipeline, work: Work, shards: Iterator[Shard], settings: PredictSettings, workers: int, limit: int | None
) -> Forecast:
    """Answers rows for some seconds, into nothing, by as many threads as a run would. Raises Setup, Unavailable."""
    first = next(shards, None)
    if first is not None:  # what reading needs is loaded before it is timed
        open_reader(replace(source_of(work, first, pipeline), quiet=True)).close()
        shards = itertools.chain([first], shards)
    started, before = time.perf_counter(), read_joules()
    tried = bad = passed_over = 0
    why = ""
    total = None
    results = ((shard, result) for shard in shards for result in _answer(pipeline, work, shard, workers))
    with contextlib.closing(results):
        for shard, result in results:
            tried += result.rows + len(result.bad)
            bad += len(result.bad)
            why = last_of(result) if result.bad else why
            passed_over += result.passed_over
            if time.perf_counter() - started > SAMPLE_S:
                total = min(round(shard.rows / shard.share), limit or sys.maxsize)
                break
    sample_s = time.perf_counter() - started
    read = tried + passed_over
    times = 1.0 if total is None or not read else max(1.0, total / read)
    seconds = sample_s * times
    watts = settings.watts or _watts(before, sample_s)
    return Forecast(
        rows=round(tried * times),
        sampled=tried,
        bad=bad,
        passed_over=round(passed_over * times),
        rows_per_s=tried / sample_s,
        seconds=seconds,
        memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        cost=settings.price_per_hour * seconds / 3600 if settings.price_per_hour else None,
        joules=watts * seconds if watts else None,
        why=why,
    )


def read_joules(folder: Path = POWERCAP) -> float | None:
    """What the processors have used since they were switched on; None where that is not counted, or not told.

    https://docs.kernel.org/power/powercap/powercap.html
    """
    counted = None
    for file in sorted(folder.glob("intel-rapl:?/energy_uj")):
        with contextlib.suppress(OSError, ValueError):
            counted = (counted or 0.0) + int(file.read_text()) / 1e6
    return counted


def _watts(before: float | None, seconds: float) -> float | None:
    after = read_joules()
    return None if before is None or after is None or after < before else (after - before) / seconds


def _answer(pipeline: Pipeline, work: Work, shard: Shard, workers: int) -> Iterator[Result]:
    with contextlib.closing(open_reader(source_of(work, shard, pipeline))) as reader:
        writer = open_writer(Sheet(io.BytesIO(), pipeline.signature, work.format, work.ids))
        compute = Computer(pipeline, reader, writer, shard.name if work.ids else None)
        with contextlib.closing(in_order(compute, reader.chunks(), workers)) as results:
            yield from results
