"""Rows through pipes: NDJSON from standard input or to standard output, answered as they come."""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from foretell.cpus import usable_cpus
from foretell.errors import Setup
from foretell.modes.files.compute import Computer
from foretell.modes.files.formats import open_reader, open_writer
from foretell.modes.files.inputs import find_inputs
from foretell.modes.files.patience import Patient
from foretell.modes.files.plan import Cut, plan
from foretell.modes.files.progress import Tally, choose_progress
from foretell.modes.files.report import Report
from foretell.modes.files.rows import STANDARD, Chunk, Sheet, Source
from foretell.modes.files.run import Errors, last_of, source_of, too_many_errors
from foretell.modes.files.shard import Done, Work
from foretell.modes.files.target import Target
from foretell.modes.files.window import in_order
from foretell.pipeline import Pipeline
from foretell.settings import PredictSettings
from foretell.storage import create


class Stream:
    """One run through a pipe. ``target`` None is standard output."""

    def __init__(self, pipeline: Pipeline, work: Work, settings: PredictSettings, limit: int | None) -> None:
        self.pipeline = pipeline
        self.work = work
        self.settings = settings
        self.limit = limit

    def run(self, source: str | Path, target: Target | None, tally: Tally, *, bar: bool) -> Report:
        """Answers go to their place as they come; a file appears at the end. Raises Setup."""
        started = time.perf_counter()
        with contextlib.ExitStack() as files, choose_progress(bar, tally):
            try:
                if target is None:
                    stream: BinaryIO = sys.stdout.buffer
                    errors = Errors(lambda: sys.stderr.buffer)
                else:
                    stream = files.enter_context(create(target.path))
                    errors = Errors(lambda: files.enter_context(create(target.errors)))
                self._answer(self._sources(source), stream, errors, tally)
                files.close()
            except OSError as error:
                place = "standard output" if target is None else target.path
                raise Setup("wrong_target", f"{place} cannot be written to its end: {error}: nothing was kept") from error
        found = target.errors if target is not None and tally.failed else None
        if target is not None and not tally.failed:
            target.errors.unlink(missing_ok=True)
        place = STANDARD if target is None else target.path
        seconds = time.perf_counter() - started
        workers = self.settings.workers or usable_cpus()
        return Report(tally.rows, tally.failed, seconds, tally.model_s, place, found, tally.passed_over, workers=workers)

    def _sources(self, source: str | Path) -> Iterator[Source]:
        if str(source) == str(STANDARD):
            yield Source(
                STANDARD, self.pipeline.signature, self.work.chunk_rows, self.work.map, None, self.work.keep, self.work.choice
            )
            return
        inputs = find_inputs(str(source), self.pipeline.signature)
        for shard in plan(inputs, Cut(2**18, limit=self.limit)):
            yield source_of(self.work, shard, self.pipeline)

    def _answer(self, sources: Iterator[Source], stream: BinaryIO, errors: Errors, tally: Tally) -> None:
        writer = open_writer(Sheet(stream, self.pipeline.signature, self.work.format, self.work.ids))
        workers = self.settings.workers or usable_cpus()
        patient = Patient(self.pipeline, self.work.retries, self.work.row_timeout_s)
        for source in sources:
            with contextlib.closing(open_reader(source)) as reader:
                file = source.shard.name if source.shard is not None and self.work.ids else None
                compute = Computer(patient, reader, writer, file)
                for result in in_order(compute, self._limited(reader.chunks()), workers):
                    for piece in result.encoded:
                        writer.write(piece)
                    errors.note(result.bad)
                    done = Done(0, result.rows, len(result.bad), result.passed_over, model_s=result.model_s)
                    tally.add(done, ticked=False)
                    if 0 <= self.settings.max_errors < tally.failed:
                        raise too_many_errors(tally.failed, self.settings.max_errors, last_of(result))
        writer.finish()

    def _limited(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """No more rows than are wanted; those of files have been counted before."""
        for chunk in chunks:
            if self.limit is not None and chunk.numbers[-1:] >= self.limit:
                last = chunk.numbers < self.limit
                yield Chunk(chunk.numbers[last], chunk.raw[: int(last.sum())], chunk.done, chunk.bad)
                return
            yield chunk
