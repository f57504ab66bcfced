"""Batchers over fake models, and entries that keep what they are told."""

import asyncio
from dataclasses import replace

import numpy as np

from foretell.engine.batcher import Batcher
from foretell.engine.placement import Inline
from foretell.engine.queue import Entry
from foretell.errors import ForetellError
from foretell.passage import Passage
from foretell.settings import EngineSettings
from foretell.tensors import Arrays, Signature, TensorSpec
from foretell.testing import FakeBackend, FakeClock, HeldPlace

FAR = float("inf")
ANY_LENGTH = Signature((TensorSpec.parse("x", "FP32[?]"),), (TensorSpec.parse("y", "FP32[?]"),))


def rows_of(*values: float) -> Arrays:
    return {"x": np.array([[value, value] for value in values], np.float32)}


def passage() -> Passage:
    return Passage("m", "1", "test", received=0.0)


def batcher_of(backend: FakeBackend, clock: FakeClock, place: Inline | HeldPlace | None = None, **changes: object) -> Batcher:
    limits = replace(EngineSettings(), **changes)  # type: ignore[arg-type] # the fields' own types
    return Batcher(backend.forward, backend.signature, place or Inline(), limits, clock)


class Tagged(Entry):
    """Keeps every answer that it is given."""

    __slots__ = ("answers", "errors")

    def __init__(self) -> None:
        self.answers: list[Arrays] = []
        self.errors: list[ForetellError] = []

    def answer(self, outputs: Arrays) -> None:
        self.answers.append(outputs)

    def fail(self, error: ForetellError) -> None:
        self.errors.append(error)


def entry_of(value: float, clock: FakeClock, *, due_s: float = 1e6, **more: object) -> Tagged:
    """One row that is wanted within ``due_s``."""
    entry = Tagged()
    entry.load(rows_of(value), 1, clock() + due_s, passage(), **more)  # type: ignore[arg-type] # load's own
    return entry


async def busy(batcher: Batcher, clock: FakeClock) -> Tagged:
    """Have the model run one row, in a held place."""
    entry = entry_of(0, clock)
    batcher.submit_nowait(entry)
    await asyncio.sleep(0)
    return entry


def codes(entries: list[Tagged]) -> list[str]:
    """What each was told."""
    return [entry.errors[0].code if entry.errors else "ok" if entry.answers else "nothing" for entry in entries]
