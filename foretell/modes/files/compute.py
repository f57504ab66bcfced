"""One chunk through the pipeline: all rows at once, and by halving where that fails, until only the bad rows are left."""

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from foretell.errors import Broken, ForetellError, Invalid, Late
from foretell.modes.files.nested import is_ragged
from foretell.modes.files.patience import Patient
from foretell.modes.files.rows import Answers, BadRow, Chunk, Reader, Rows, Writer
from foretell.pipeline import Pipeline
from foretell.tensors import Array, Arrays, cast


@dataclass
class Result:
    """One chunk's answers, encoded piece by piece in order, and its bad rows. ``model_s``: seconds in the pipeline."""

    done: float | None
    encoded: list[Any] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    rows: int = 0
    passed_over: int = 0
    model_s: float = 0.0


@dataclass(frozen=True)
class Computer:
    """Decodes, computes and encodes a chunk. Several threads may call it at once. ``file``: what to call the rows' file."""

    pipeline: Pipeline | Patient
    reader: Reader
    writer: Writer
    file: str | None = None

    def __call__(self, chunk: Chunk) -> Result:
        result = Result(chunk.done, bad=[bad if self.file is None else replace(bad, id=self.file) for bad in chunk.bad])
        if len(chunk.numbers):
            rows = self._named(self.reader.decode(chunk))
            result.bad += rows.bad
            result.passed_over = rows.passed_over
            for part in self._runs(rows) if len(rows) else ():
                self._answer(part, result)
        result.bad.sort(key=lambda bad: bad.row)
        return result

    def _named(self, rows: Rows) -> Rows:
        """The rows of one of many tables by its name."""
        if self.file is None or rows.ids is not None:
            return rows
        return replace(rows, ids=[self.file] * len(rows), bad=tuple(replace(bad, id=self.file) for bad in rows.bad))

    def _runs(self, rows: Rows) -> Iterator[Rows]:
        """Neighbouring rows of one shape together, so that each run is one array for each input."""
        ragged = [spec.name for spec in self.pipeline.signature.inputs if is_ragged(rows.arrays[spec.name], spec)]
        if not ragged:
            yield rows
            return
        shapes = [[(rows.arrays[name][i].shape, rows.arrays[name][i].dtype) for name in ragged] for i in range(len(rows))]
        start = 0
        for _, run in itertools.groupby(shapes):
            stop = start + len(list(run))
            part = rows.part(start, stop)
            yield replace(part, arrays={**part.arrays, **{name: np.stack(list(part.arrays[name])) for name in ragged}})
            start = stop

    def _answer(self, rows: Rows, result: Result) -> None:
        """Adds the answers to these rows: a failure of many is looked for in each half, a failure of one is a bad row."""
        try:
            result.encoded.append(
                self.writer.encode(Answers(rows.numbers, self._timed(rows.arrays, result), rows.ids, rows.kept))
            )
            result.rows += len(rows)
        except (Invalid, Broken, Late) as error:
            if len(rows) == 1:
                result.bad.append(_bad_row(rows, error, self.pipeline.signature.rows))
                return
            half = len(rows) // 2
            self._answer(rows.part(0, half), result)
            self._answer(rows.part(half, len(rows)), result)

    def _timed(self, arrays: Arrays, result: Result) -> Arrays:
        started = time.perf_counter()
        try:
            return self._run(arrays)
        finally:
            result.model_s += time.perf_counter() - started

    def _run(self, arrays: Arrays) -> Arrays:
        signature = self.pipeline.signature
        inputs = {spec.name: cast(arrays[spec.name], spec.dtype, spec.name, rounding=True) for spec in signature.inputs}
        if not signature.rows:
            return self._one_by_one(inputs)
        outputs = self.pipeline(inputs)
        count = signature.count_rows(inputs)
        for name, array in outputs.items():
            if array.shape[:1] != (count,):
                raise Broken(
                    "wrong_output",
                    f"output {name!r} has shape {list(array.shape)} for {count} rows: a file needs one answer a row",
                )
        return outputs

    def _one_by_one(self, inputs: Arrays) -> Arrays:
        """A model without a batch axis sees one row at a time, whole."""
        count = len(next(iter(inputs.values())))
        answers = [self.pipeline({name: np.asarray(array[i]) for name, array in inputs.items()}) for i in range(count)]
        return {name: _stack(name, [answer[name] for answer in answers]) for name in answers[0]}


def _stack(name: str, arrays: list[Array]) -> Array:
    if len({array.shape for array in arrays}) > 1:
        raise Broken("wrong_output", f"output {name!r} has rows of different shapes")
    return np.stack(arrays)


def _bad_row(rows: Rows, error: ForetellError, counted: bool) -> BadRow:
    """The reason, with what a step or the model raised: whoever runs this mode also owns the model."""
    number = int(rows.numbers[0])
    cause = error.__cause__ if isinstance(error, Broken) else None
    reason = f"{error.message}: {type(cause).__name__}: {cause}" if cause else error.message
    reason = _renumber(reason, error, number) if counted or error.code == "lossy_value" else reason
    return BadRow(number, error.code, reason, rows.ids[0] if rows.ids is not None else None)


def _renumber(reason: str, error: ForetellError, number: int) -> str:
    """The reason with the row's number in the file: whoever raised it saw this row alone, as row 0."""
    index = error.details.get("index")
    if error.details.get("row") == 0:
        reason = re.sub(r"\brow 0\b", f"row {number}", reason, count=1)
    if isinstance(index, list) and index[:1] == [0]:
        reason = re.sub(r"\bat index \[0\b", f"at index [{number}", reason, count=1)
    return reason
