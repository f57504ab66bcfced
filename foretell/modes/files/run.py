"""One shard from its rows to its answers, safe on the disk: what any worker, in any process, does again and again."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import BinaryIO

import msgspec

from foretell.errors import Cancelled, Setup
from foretell.modes.files.compute import Computer, Result
from foretell.modes.files.formats import ENDINGS, open_reader, open_writer
from foretell.modes.files.ledger import checksum, errors_name, record
from foretell.modes.files.patience import Patient
from foretell.modes.files.rows import BadRow, Sheet, Source
from foretell.modes.files.shard import Done, Shard, Work, from_json, to_json
from foretell.modes.files.window import in_order
from foretell.pipeline import Pipeline
from foretell.storage import create, find_place, make_folder, size_of

Tick = Callable[[int, int], None]
"""Told of rows that have an answer now and rows that failed, chunk by chunk."""


@dataclass(frozen=True)
class Task:
    """Runs shards of one work by one pipeline; may be called by several threads. ``stopped``: no more chunks are begun."""

    work: Work
    pipeline: Pipeline
    tick: Tick
    stopped: threading.Event
    threads: int = 1

    def __call__(self, shard: Shard) -> Done:
        return run_shard(self.work, shard, self.pipeline, tick=self.tick, stopped=self.stopped, threads=self.threads)


def run_shard(
    work: Work,
    shard: Shard,
    pipeline: Pipeline,
    *,
    tick: Tick | None = None,
    stopped: threading.Event | None = None,
    threads: int = 1,
) -> Done:
    """Answer the rows of a shard and commit them: the part, the errors, then the record; done again, it gives the same.

    ``threads``: so many chunks side by side. Raises Setup, Unavailable, Cancelled; then nothing of the shard is kept.
    """
    started = time.perf_counter()
    parts = find_place(work.parts)
    done = Done(shard.index, share=shard.share, errors=errors_name(shard.index), part=part_name(work, shard))
    part = find_place(work.target or work.parts) / done.part
    with contextlib.closing(open_reader(source_of(work, shard, pipeline))) as reader:
        try:
            make_folder(part.parent)
            with contextlib.ExitStack() as files:
                stream = files.enter_context(create(part, parts, sync_name=False))
                errors = Errors(lambda: files.enter_context(create(parts / done.errors, sync_name=False)))
                writer = open_writer(Sheet(stream, pipeline.signature, work.format, work.ids))
                patient = Patient(pipeline, work.retries, work.row_timeout_s)
                compute = Computer(patient, reader, writer, shard.name if work.ids else None)
                results = in_order(compute, reader.chunks(), threads) if threads > 1 else map(compute, reader.chunks())
                for result in results:
                    for piece in result.encoded:
                        writer.write(piece)
                    errors.note(result.bad)
                    done = _added(done, result)
                    _check(work, done, result, stopped)
                    if tick is not None:
                        tick(result.rows, len(result.bad))
                done = replace(done, head_bytes=writer.finish(), errors=done.errors if done.failed else "")
                done = replace(done, checksum=checksum(stream))
            done = replace(done, seconds=time.perf_counter() - started, part_bytes=size_of(part))
            record(parts, done)
        except OSError as error:
            raise Setup(
                "wrong_target", f"{part} cannot be written to its end: {error}: free some room, then run it again"
            ) from error
    return done


def open_runner(work: bytes, pipeline: Pipeline) -> Callable[[bytes], bytes]:
    """For another process: from the JSON of a shard to the JSON of what became of it, by the JSON of the work."""
    task = Task(from_json(work, Work), pipeline, lambda rows, failed: None, threading.Event())
    return lambda shard: to_json(task(from_json(shard, Shard)))


def source_of(work: Work, shard: Shard, pipeline: Pipeline) -> Source:
    return Source(
        find_place(shard.file),
        pipeline.signature,
        work.chunk_rows,
        map=work.map,
        shard=shard,
        keep=work.keep,
        choice=work.choice,
        sample_rate_hz=work.sample_rate_hz,
    )


def part_name(work: Work, shard: Shard) -> str:
    """Where the answers to a shard go: beside each other, or in a folder of answers as the shard's file lies in the input."""
    name = f"{shard.index:07}{ENDINGS[work.format]}"
    return f"{shard.folder}/part-{name}".lstrip("/") if work.target else name


class Errors:
    """A file of bad rows, which is made for the first."""

    def __init__(self, create: Callable[[], BinaryIO]) -> None:
        self.create = create
        self.stream: BinaryIO | None = None

    def note(self, bad: Iterable[BadRow]) -> None:
        for row in bad:
            self.stream = self.stream or self.create()
            self.stream.write(bad_line(row))


def bad_line(row: BadRow) -> bytes:
    line: dict[str, object] = {"row": row.row, "id": row.id, "code": row.code, "error": row.error}
    return msgspec.json.encode({key: value for key, value in line.items() if value is not None}) + b"\n"


def _added(done: Done, result: Result) -> Done:
    return replace(
        done,
        rows=done.rows + result.rows,
        failed=done.failed + len(result.bad),
        passed_over=done.passed_over + result.passed_over,
        model_s=done.model_s + result.model_s,
    )


def _check(work: Work, done: Done, result: Result, stopped: threading.Event | None) -> None:
    if 0 <= work.most_errors < done.failed:
        raise too_many_errors(done.failed, work.most_errors, last_of(result))
    if stopped is not None and stopped.is_set():
        raise Cancelled("cancelled", "the run was stopped")


def last_of(result: Result) -> str:
    """The last bad row of a chunk, in words."""
    row = result.bad[-1]
    return f"the last is {'' if row.id is None else f'{row.id}, '}row {row.row}: {row.error}"


def too_many_errors(failed: int, most: int, why: str) -> Setup:
    """``why``: where reasons are, or one of them."""
    return Setup(
        "too_many_errors", f"{failed:,} rows failed, --max-errors allows {most:,}: {why}: what was done before is kept"
    )
