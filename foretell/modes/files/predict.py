"""From a file of rows to a file of answers: read, compute side by side, write in order."""

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from foretell.backends import Backend, is_thread_safe
from foretell.cpus import usable_cpus
from foretell.modes.files.compute import Computer, Result
from foretell.modes.files.formats import format_of, open_reader, open_writer
from foretell.modes.files.progress import Progress, choose_progress
from foretell.modes.files.rows import Sheet, Source, Writer
from foretell.modes.files.target import Target, check_target
from foretell.modes.files.window import in_order
from foretell.pipeline import Pipeline
from foretell.settings import PredictSettings
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

CHUNK_BYTES = 8 * 2**20
"""About as much as the inputs of one chunk may take."""
OPEN_LENGTH = 512
TEXT_BYTES = 256
ENCODED_BYTES = 64 * 2**10
"""What is reckoned for an axis of open length, a text, and bytes that are no text: an encoded image."""


@dataclass(frozen=True)
class Report:
    """What became of a file. ``model_s`` is the time in the pipeline, summed over the threads; ``rows`` had an answer."""

    rows: int
    failed: int
    seconds: float
    model_s: float
    target: Path
    errors: Path | None = None

    @property
    def rows_per_s(self) -> float:
        return (self.rows + self.failed) / self.seconds if self.seconds else 0.0


def predict(
    pipeline: Pipeline,
    source: Path,
    target: Path,
    settings: PredictSettings,
    *,
    map: Mapping[str, str] | None = None,
    progress: bool = False,
) -> Report:
    """Answers every row of ``source`` into ``target``, in order, in memory that does not grow with the file.

    Both are CSV, NDJSON, Parquet or .npy by their suffix; ``source`` may also be a folder of images, and either may be
    ``-`` for NDJSON on standard input or output. Columns are matched by name, as foretell/modes/files/columns.py tells;
    ``map`` gives an input another column. Numbers for a float input are rounded to its precision; an empty cell is NaN
    there, and makes a bad row elsewhere.

    The answers have a column ``row`` (from 0), for images also ``file``, then one for each output; .npy has the output
    alone. A bad row is left out and told in ``target`` + ``.errors.ndjson``, which exists only if there are any.
    ``target`` appears when all is done. Raises Setup, naming file and cure; then nothing is left behind.
    """
    started = time.perf_counter()
    check_target(source, target)
    rows = Source(source, pipeline.signature, chunk_rows(pipeline, settings.batch_rows), map or {})
    with contextlib.closing(open_reader(rows)) as reader, Target(target) as out:
        writer = open_writer(Sheet(out.stream, pipeline.signature, target, ids=format_of(source) == "images"))
        results = in_order(Computer(_shareable(pipeline), reader, writer), reader.chunks(), settings.workers or usable_cpus())
        with choose_progress(progress) as bar, contextlib.closing(results):
            tally = _write(results, writer, out, bar)
        writer.finish()
        out.commit()
    return Report(tally.rows, tally.failed, time.perf_counter() - started, tally.model_s, target, out.errors)


def chunk_rows(pipeline: Pipeline, most: int) -> int:
    """Rows of one chunk: ``most``, or fewer where the tensors before or behind the steps are large."""
    specs = pipeline.signature.inputs + pipeline.model.signature.inputs
    return max(1, min(most, CHUNK_BYTES // max(1, sum(map(_row_bytes, specs)))))


@dataclass
class _Tally:
    rows: int = 0
    failed: int = 0
    model_s: float = 0.0


def _write(results: Iterable[Result], writer: Writer, target: Target, progress: Progress) -> _Tally:
    tally = _Tally()
    for result in results:
        for piece in result.encoded:
            writer.write(piece)
        target.note(result.bad)
        tally.rows += result.rows
        tally.failed += len(result.bad)
        tally.model_s += result.model_s
        progress.show(tally.rows, tally.failed, result.done)
    return tally


def _row_bytes(spec: TensorSpec) -> int:
    elements = prod(OPEN_LENGTH if size is None else size for size in spec.shape)
    if spec.dtype is Datatype.BYTES:
        return elements * (TEXT_BYTES if spec.text else ENCODED_BYTES)
    return elements * spec.dtype.numpy.itemsize


def _shareable(pipeline: Pipeline) -> Pipeline:
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
