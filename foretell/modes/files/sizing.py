"""How many rows a shard has: as many as take some seconds, so that a killed run loses little, and a fast one is not slowed."""

import contextlib
import time
from dataclasses import replace

from foretell.errors import ForetellError
from foretell.modes.files.formats import open_reader
from foretell.modes.files.inputs import Inputs
from foretell.modes.files.plan import Cut, plan
from foretell.modes.files.rows import Rows
from foretell.modes.files.run import source_of
from foretell.modes.files.shard import Work
from foretell.pipeline import Pipeline
from foretell.tensors import cast

SHARD_ROWS = 2**18
LEAST_ROWS = 16
SHARD_S = 5.0
TRIED_ROWS = 64
TRIED_MEDIA = 4
MEDIA_SHARDS = 16
"""Into at least so many shards a folder of images or sounds is cut, so that all workers end at about the same time."""


def choose_rows(pipeline: Pipeline, work: Work, inputs: Inputs) -> int:
    """A power of two, from the time of the first rows; at most ``SHARD_ROWS``.

    Raises Setup for rows that do not fit the pipeline at all, by opening the first file.
    """
    most = SHARD_ROWS if not inputs.are_media else max(LEAST_ROWS, len(inputs.files) // MEDIA_SHARDS)
    shard = next(plan(inputs, Cut(TRIED_MEDIA if inputs.are_media else TRIED_ROWS)))
    with contextlib.closing(open_reader(replace(source_of(work, shard, pipeline), quiet=True))) as reader:
        if shard.share >= 1:
            return most  # it is all in one
        started = time.perf_counter()
        chunk = next(iter(reader.chunks()), None)
        rows = reader.decode(chunk) if chunk is not None and len(chunk.numbers) else None
        decode_s = time.perf_counter() - started if inputs.are_media else 0.0
    if rows is None or not len(rows):
        return most
    row_s = (decode_s + _time(pipeline, rows)) / len(rows)
    if row_s * most <= SHARD_S:
        return most
    return max(LEAST_ROWS, 1 << (int(SHARD_S / row_s).bit_length() - 1))


def _time(pipeline: Pipeline, rows: Rows) -> float:
    """Seconds of the second of two calls; nothing for rows that fail, or whose shapes differ."""
    signature = pipeline.signature
    seconds = 0.0
    if not signature.rows:
        rows = rows.part(0, 1)
    try:
        inputs = {spec.name: cast(rows.arrays[spec.name], spec.dtype, spec.name, rounding=True) for spec in signature.inputs}
        for _ in range(2):
            started = time.perf_counter()
            pipeline(inputs if signature.rows else {name: array[0] for name, array in inputs.items()})
            seconds = time.perf_counter() - started
    except ForetellError:
        return 0.0
    return seconds
