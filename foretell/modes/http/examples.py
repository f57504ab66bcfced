"""One row for each model that it really answers: found by asking it, and shown wherever a person looks for one."""

import base64
import csv
import io
import json
import struct
import time
import zlib
from asyncio import to_thread
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.engine.engine import Engine
from foretell.errors import Broken, Busy, ForetellError, Invalid, Late, Unavailable
from foretell.passage import Passage
from foretell.pipeline import Pipeline
from foretell.steps import check
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

TEXT = b"a line of text"
NUMBERS = (0, 1, 0.5)
LENGTHS = (4, 1, 32, 224)  # tried in turn for axes of any length
MOST_TRIES = 64
LONGEST_S = 5.0  # how long one model may take to be asked


@dataclass(frozen=True)
class Example:
    """One row that a model takes: an array with one row (or the whole input of a model without rows) for each input."""

    signature: Signature
    inputs: Arrays

    @property
    def media_type(self) -> str | None:
        """What the row is as a body of its own, for a model that takes one picture or one text; else None."""
        specs = self.signature.inputs
        if len(specs) != 1 or specs[0].dtype is not Datatype.BYTES or specs[0].shape:
            return None
        return "image/png" if self.media == picture() else "text/plain"

    @property
    def media(self) -> bytes:
        """The one value of a model that takes one picture or one text."""
        value: Any = next(iter(self.inputs.values())).reshape(-1)[0]
        return bytes(value)

    @property
    def row(self) -> dict[str, Any]:
        """The row as the row door reads it."""
        values = {name: _to_json(array, as_b64=_b64) for name, array in self.inputs.items()}
        return {name: value[0] for name, value in values.items()} if self.signature.rows else values

    @property
    def tensors(self) -> list[dict[str, Any]]:
        """The inputs of an infer request."""
        return [_tensor(spec, self.inputs[spec.name]) for spec in self.signature.inputs]

    @property
    def is_flat(self) -> bool:
        """Whether the row fits into one line of a table."""
        return not any(spec.shape for spec in self.signature.inputs) and not any(isinstance(v, dict) for v in self.row.values())

    def body(self, media_type: str) -> bytes:
        """The row as a body of that content type, one that the row door reads."""
        if media_type == self.media_type:
            return self.media
        if media_type == "text/csv":
            table = io.StringIO(newline="")
            csv.writer(table, lineterminator="\n").writerows([self.row.keys(), self.row.values()])
            return table.getvalue().encode()
        return _dump(self.row) + (b"\n" if media_type == "application/x-ndjson" else b"")

    def infer_body(self) -> bytes:
        """An infer request of the Open Inference Protocol."""
        return _dump({"inputs": self.tensors})


async def find_example(engine: Engine) -> Example | None:
    """A row that the model answers, or None when none of those that were tried is one. Nothing of it is counted."""
    signature = engine.pipeline.signature
    due = time.monotonic() + LONGEST_S
    for inputs in _candidates(engine.pipeline):
        try:
            await _ask(engine, inputs, due)
        except (Invalid, Broken):
            continue
        except (Busy, Late, Unavailable):
            pass  # it has other work now: the row is at least one that its steps take
        except ForetellError:
            return None
        return Example(signature, inputs)
    return None


async def _ask(engine: Engine, inputs: Arrays, due: float) -> Arrays:
    passage = Passage(engine.name, engine.version, "docs", time.monotonic())
    slow = engine.pipeline.slow
    features = await to_thread(engine.pipeline.prepare, inputs) if slow else engine.pipeline.prepare(inputs)
    outputs = await engine.batcher.submit(features, due, passage)
    return await to_thread(engine.pipeline.finish, outputs) if slow else engine.pipeline.finish(outputs)


def _candidates(pipeline: Pipeline) -> Iterator[Arrays]:
    """Rows worth trying: all inputs of the plainest value, then what the pipeline's own checks name."""
    signature = pipeline.signature
    named = list(_values_of_checks(pipeline))
    choices = {spec.name: _values(spec, named) for spec in signature.inputs}
    tries = 0
    for length in LENGTHS if any(None in spec.shape for spec in signature.inputs) else LENGTHS[:1]:
        for number in range(max(map(len, choices.values()))):
            tries += 1
            if tries > MOST_TRIES:
                return
            picked = {name: values[min(number, len(values) - 1)] for name, values in choices.items()}
            yield {spec.name: _full(spec, picked[spec.name], length, rows=signature.rows) for spec in signature.inputs}


def _values_of_checks(pipeline: Pipeline) -> Iterator[object]:
    for step in pipeline.preprocess:
        if isinstance(step, check.allowed):
            yield step.values[0]
        elif isinstance(step, check.range):
            yield from (end for end in (step.low, step.high) if end is not None)


def _values(spec: TensorSpec, named: Iterable[object]) -> list[Any]:
    if spec.dtype is Datatype.BYTES:
        return [*(value.encode() for value in named if isinstance(value, str)), TEXT, *([] if spec.text else [picture()])]
    if spec.dtype is Datatype.BOOL:
        return [False, True]
    numbers = [*NUMBERS, *(value for value in named if isinstance(value, int | float))]
    return numbers if spec.dtype.is_float else [int(value) for value in numbers if value == int(value)]


def _full(spec: TensorSpec, value: Any, length: int, *, rows: bool) -> Any:
    shape = ((1,) if rows else ()) + tuple(length if size is None else size for size in spec.shape)
    return np.full(shape, value, dtype=spec.dtype.numpy)


def picture() -> bytes:
    """A small PNG of a dark ring on light paper, 28 x 28 and grey: most models of pictures take it."""
    across = np.arange(28) - 13.5
    far = np.hypot(across[:, None] / 0.8, across[None, :] / 0.6)
    pixels = np.where(abs(far - 12) < 2.5, 30, 235).astype(np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    head = struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, parts))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    kind, data = part
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _tensor(spec: TensorSpec, array: Any) -> dict[str, Any]:
    parameters, data = {}, _to_json(array.reshape(-1), as_b64=lambda value: base64.b64encode(value).decode())
    if spec.dtype is Datatype.BYTES and not _is_text(array):
        parameters = {"parameters": {"content_type": "base64"}}
    return {"name": spec.name, "shape": list(array.shape), "datatype": str(spec.dtype), **parameters, "data": data}


def _is_text(array: Any) -> bool:
    return all(isinstance(_plain(value), str) for value in array.reshape(-1)[:1])


def _to_json(array: Any, *, as_b64: Any) -> Any:
    return _encode((array.astype(np.float64) if array.dtype == Datatype.BF16.numpy else array).tolist(), as_b64)


def _encode(values: Any, as_b64: Any) -> Any:
    if isinstance(values, list):
        return [_encode(value, as_b64) for value in values]
    if isinstance(values, bytes):
        text = _plain(values)
        return text if isinstance(text, str) else as_b64(values)
    return int(values) if isinstance(values, float) and values == int(values) else values


def _plain(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _b64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _dump(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()
