"""From rows in files to answers in files: cut into shards, run side by side, each committed by itself, joined at the end."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path

from foretell.backends import Backend, is_thread_safe
from foretell.cpus import usable_cpus
from foretell.errors import Setup
from foretell.modes.files.executor import Executor, Threads
from foretell.modes.files.forecast import Forecast, measure
from foretell.modes.files.inputs import Inputs, find_inputs, takes_media
from foretell.modes.files.ledger import Ledger
from foretell.modes.files.options import Options
from foretell.modes.files.plan import Cut, plan
from foretell.modes.files.progress import Tally, choose_progress
from foretell.modes.files.report import Report
from foretell.modes.files.rows import STANDARD
from foretell.modes.files.run import Task, part_name, too_many_errors
from foretell.modes.files.shard import Choice, Shard, Work
from foretell.modes.files.sizing import SHARD_ROWS, choose_rows
from foretell.modes.files.stream import Stream
from foretell.modes.files.target import Target, check_target, find_target
from foretell.pipeline import Pipeline
from foretell.settings import PredictSettings
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

CHUNK_BYTES = 8 * 2**20
"""About as much as the inputs of one chunk may take."""
OPEN_LENGTH = 512
TEXT_BYTES = 256
ENCODED_BYTES = 64 * 2**10
MEDIA_ROWS = 16
"""What is reckoned for an axis of open length, a text, and bytes that are no text: an encoded image; a chunk has
``MEDIA_ROWS`` of those at most, so that some are decoded while others are in the model."""


def predict(
    pipeline: Pipeline,
    source: str | Path,
    target: str | Path,
    settings: PredictSettings | None = None,
    options: Options | None = None,
) -> Report:
    """Answers every row of ``source`` into ``target``, in order, in memory that does not grow with the input.

    ``source`` is a file (CSV, NDJSON, Parquet, .npy, .npz by its suffix), a folder or pattern of such files, a folder or an
    archive of images or sounds, or the URL of one in an object store; ``target`` a file, or a folder that gets a file for each
    shard, laid out like the input.
    Either may be ``-`` for NDJSON on standard input or output. Columns are matched by name, as foretell/modes/files/columns.py
    tells. Numbers for a float input are rounded to its precision; an empty cell is NaN there, and makes a bad row elsewhere.

    The answers have a column ``row`` (from 0, in its file), for many files also ``file``, the kept columns, then one for each
    output; .npy has the output alone. A bad row is left out and told in ``target`` + ``.errors.ndjson``, which exists only if
    there are any. ``target`` appears when all is done. What has been done is kept beside it, and the same call goes on from
    there. Raises Setup, Unavailable, naming file and cure.
    """
    settings, options = settings or PredictSettings(), options or Options()
    if str(STANDARD) in (str(source), str(target)):
        return _stream(pipeline, source, target, settings, options)
    inputs = find_inputs(str(source), pipeline.signature)
    return Run(pipeline, inputs, find_target(target, inputs, options.format), settings, options).run()


def forecast(
    pipeline: Pipeline,
    source: str | Path,
    target: str | Path,
    settings: PredictSettings | None = None,
    options: Options | None = None,
) -> Forecast:
    """What ``predict`` with the same arguments will take, measured on the first rows for some seconds; nothing is written.

    Raises Setup, Unavailable, for what would keep it from starting.
    """
    settings, options = settings or PredictSettings(), options or Options()
    if str(source) == str(STANDARD):
        raise Setup("wrong_target", "standard input is read once, so that nothing can be told before: name a file")
    inputs = find_inputs(str(source), pipeline.signature)
    place = find_target("answers.ndjson" if str(target) == str(STANDARD) else target, inputs, options.format)
    return Run(pipeline, inputs, place, settings, options).forecast()


def _stream(pipeline: Pipeline, source: str | Path, target: str | Path, settings: PredictSettings, options: Options) -> Report:
    """Standard input or output: nothing to divide, and nothing to take up again."""
    place = None if str(target) == str(STANDARD) else find_target(target, None)
    form = "ndjson" if place is None else place.format
    many = str(source) != str(STANDARD) and find_inputs(str(source), pipeline.signature).are_many
    work = make_work(pipeline, form, settings, options, ids=many)
    stream = Stream(shareable(pipeline), work, settings, options.limit)
    return stream.run(source, place, Tally(options.progress), bar=options.bar)


def make_work(pipeline: Pipeline, form: str, settings: PredictSettings, options: Options, *, ids: bool) -> Work:
    """What is the same for all shards, but where their parts go."""
    is_media = takes_media(pipeline.signature) and not pipeline.signature.inputs[0].text
    return Work(
        models=dict(options.models),
        parts="",
        format=form,
        map=dict(options.map),
        keep=tuple(options.keep),
        choice=Choice(options.where, options.sample, options.seed, options.only),
        ids=ids,
        chunk_rows=chunk_rows(pipeline, min(settings.batch_rows, MEDIA_ROWS) if is_media else settings.batch_rows),
        sample_rate_hz=settings.sample_rate_hz,
        row_timeout_s=settings.row_timeout_s,
        retries=settings.retries,
        most_errors=settings.max_errors,
    )


class Run:
    """One run, from what it reads to its report."""

    def __init__(self, pipeline: Pipeline, inputs: Inputs, target: Target, settings: PredictSettings, options: Options) -> None:
        self.pipeline = pipeline
        self.inputs = inputs
        self.target = target
        self.settings = settings
        self.options = options
        self.workers = settings.workers or usable_cpus()
        if settings.row_timeout_s and not is_thread_safe(pipeline.model):
            self.workers = 1  # else its callers' turns would count as its time
        work = make_work(pipeline, target.format, settings, options, ids=inputs.are_many)
        self.work = replace(work, parts=str(target.parts), target=str(target.path) if target.is_folder else "")

    def run(self) -> Report:
        """Raises Setup, Unavailable; what was done before is kept."""
        check_target(self.inputs, self.target)
        self.target.check(self.pipeline.signature)
        target = self.target
        ledger = Ledger(target.parts, target.path if target.is_folder else target.parts, target.clear, target.stands)
        size = Cut(self._shard_rows(ledger), limit=self.options.limit)
        shards = plan(self.inputs, size)
        first = list(itertools.islice(shards, self.workers))
        ledger.begin(self._key(size), restart=self.options.restart)
        started = time.perf_counter()
        with contextlib.closing(ledger):
            tally = self._answer(
                itertools.chain(first, shards), ledger, self.workers if len(first) >= self.workers else len(first)
            )
            errors = self.target.finish(ledger)
        resumed = tally.resumed
        return Report(
            tally.rows,
            tally.failed,
            time.perf_counter() - started,
            tally.model_s,
            self.target.path,
            errors,
            passed_over=tally.passed_over,
            resumed=resumed,
            workers=self.workers,
            price_per_hour=self.settings.price_per_hour,
        )

    def forecast(self) -> Forecast:
        """Measured, with nothing written. Raises Setup, Unavailable."""
        check_target(self.inputs, self.target)
        shards = plan(self.inputs, Cut(SHARD_ROWS, limit=self.options.limit))
        return measure(shareable(self.pipeline), self.work, shards, self.settings, self.workers, self.options.limit)

    def _shard_rows(self, ledger: Ledger) -> int:
        """As they were, for a run that is taken up again. Raises Setup for rows that do not fit, before anything is written."""
        found = None if self.options.restart else ledger.read_key()
        if found is not None and not self.settings.shard_rows:
            rows = found.get("shard rows")
            return rows if isinstance(rows, int) and rows > 0 else SHARD_ROWS
        return self.settings.shard_rows or choose_rows(shareable(self.pipeline), self.work, self.inputs)

    def _answer(self, shards: Iterator[Shard], ledger: Ledger, busy: int) -> Tally:
        """Run what has not been done. Fewer shards than workers have their chunks computed side by side."""
        tally = Tally(self.options.progress)
        for done in ledger.done.values():
            tally.resume(done)
        left = (shard for shard in shards if not ledger.has(shard.index, part_name(self.work, shard)))
        threads = max(1, self.workers // max(1, busy))
        task = Task(self.work, shareable(self.pipeline), tally.tick, threading.Event(), threads)
        execute: Executor = self.options.executor or Threads(self.workers)
        with choose_progress(self.options.bar, tally):
            for done in execute(task, left):
                ledger.done[done.index] = done
                tally.add(done)
                if 0 <= self.settings.max_errors < tally.failed:
                    why = f"reasons are in {self.target.parts / done.errors}"
                    raise too_many_errors(tally.failed, self.settings.max_errors, why)
        return tally

    def _key(self, size: Cut) -> dict[str, object]:
        """What must be the same for a run to be taken up again."""
        return {
            "model": dict(self.options.fingerprints) or str(self.pipeline.signature),
            "input": self.inputs.key,
            "output": self.work.format,
            "map": dict(self.work.map),
            "keep": list(self.work.keep),
            "where": self.work.choice.where,
            "sample": [self.work.choice.sample, self.work.choice.seed],
            "limit": self.options.limit,
            "shard rows": size.rows,
        }


def chunk_rows(pipeline: Pipeline, most: int) -> int:
    """Rows of one chunk: ``most``, or fewer where the tensors before or behind the steps are large."""
    specs = pipeline.signature.inputs + pipeline.model.signature.inputs
    return max(1, min(most, CHUNK_BYTES // max(1, sum(map(_row_bytes, specs)))))


def _row_bytes(spec: TensorSpec) -> int:
    elements = prod(OPEN_LENGTH if size is None else size for size in spec.shape)
    if spec.dtype is Datatype.BYTES:
        return elements * (TEXT_BYTES if spec.text else ENCODED_BYTES)
    return elements * spec.dtype.numpy.itemsize


def shareable(pipeline: Pipeline) -> Pipeline:
    """The pipeline for several threads: a model that is not made for that is called by one at a time."""
    if is_thread_safe(pipeline.model):
        return pipeline
    return Pipeline(_OneAtATime(pipeline.model), pipeline.preprocess, pipeline.postprocess)


class _OneAtATime:
    """A backend behind a lock."""

    def __init__(self, model: Backend) -> None:
        self.model = model
        self.lock = threading.Lock()

    @property
    def signature(self) -> Signature:
        return self.model.signature

    def forward(self, inputs: Arrays) -> Arrays:
        with self.lock:
            return self.model.forward(inputs)

    def close(self) -> None:
        self.model.close()
