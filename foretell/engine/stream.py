"""Answers in pieces: what a model's own generator yields, passed on to one caller as it comes.

Each step of a generator runs where the model's forwards run, so that the model is never in two threads, and only when the piece
before it was taken: a slow reader holds its generator, and no memory. Between two steps others have their turn.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Protocol

from foretell.backends import Streaming
from foretell.engine.batcher import Outcome, Place
from foretell.errors import Broken, Busy, Cancelled, ForetellError, Late
from foretell.passage import Passage
from foretell.pipeline import Pipeline
from foretell.request import NO_DEADLINE, Request
from foretell.tensors import Arrays

log = logging.getLogger("foretell")
MOST_STREAMS = 64
"""Of one model at once."""


class Runs(Protocol):
    """What is needed of an engine here; ``streaming`` counts the answers in pieces that are being given."""

    pipeline: Pipeline
    clock: Callable[[], float]
    streaming: int

    @property
    def place(self) -> Place: ...

    async def infer(self, request: Request) -> Arrays: ...

    def open(self, request: Request) -> Passage: ...

    def conclude(self, passage: Passage, error: ForetellError | None = None) -> None: ...


async def stream(engine: Runs, request: Request) -> AsyncGenerator[Arrays, None]:
    """The pieces of one answer; of a model that does not stream, the one that it has. Raises what the caller is to be told."""
    model = engine.pipeline.model
    if not isinstance(model, Streaming):
        yield await engine.infer(request)
        return
    giving = Giving(engine, request, model.stream)
    try:
        await giving.begin(model.signature.count_rows)
        while (piece := await giving.take()) is not None:
            yield piece
        giving.end(None)
    except ForetellError as refused:
        giving.end(refused)
        raise
    finally:
        giving.end(Cancelled("cancelled", "the caller went away before the answer"))


class Giving:
    """One answer in pieces. At its deadline it ends, also where its reader has not taken the last piece: a reader that never
    reads on holds no place, and nobody who waits for the model to be free."""

    def __init__(self, engine: Runs, request: Request, pieces: Callable[[Arrays], Iterator[Arrays]]) -> None:
        self.engine = engine
        self.request = request
        self.pieces = pieces
        self.passage = engine.open(request)
        self.steps: Steps | None = None
        self.late: Late | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    async def begin(self, count_rows: Callable[[Arrays], int]) -> None:
        """Take a place and prepare the inputs. Raises Busy when there is none left, and what the steps refuse."""
        engine, passage = self.engine, self.passage
        engine.streaming += 1
        if engine.streaming > MOST_STREAMS:
            text = f"the model answers {MOST_STREAMS} callers in pieces already: try again"
            raise Busy("queue_full", text, retry_after_s=1)
        features = await _run(engine, engine.pipeline.prepare, self.request.inputs)
        passage.rows = passage.batch_rows = count_rows(features)
        passage.queued = passage.started = engine.clock()
        self.steps = Steps(engine.place, lambda: self.pieces(features))
        if self.request.deadline != NO_DEADLINE:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, self._left_s()), self._expire)

    async def take(self) -> Arrays | None:
        """The next piece, None behind the last. Raises Late once the deadline has passed, and what the model is told for."""
        if self.late is not None:
            raise self.late
        assert self.steps is not None
        piece = await _within(self.steps.take(), self._left_s())
        return None if piece is None else await _run(self.engine, self.engine.pipeline.finish, piece)

    def end(self, error: ForetellError | None) -> None:
        """Free the place, have the generator closed and tell the observers; only the first call does."""
        if self._ended:
            return
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self.steps is not None:
            self.steps.close()
        self.passage.computed = self.engine.clock() if self.passage.started else 0.0
        self.engine.streaming -= 1
        self.engine.conclude(self.passage, error)

    def _left_s(self) -> float:
        return self.request.deadline - self.engine.clock()

    def _expire(self) -> None:
        self.late = _late()
        self.end(self.late)


class Steps:
    """A generator that is begun, driven and closed in a place; ``take`` gives its next piece, None behind the last."""

    def __init__(self, place: Place, begin: Callable[[], Iterator[Arrays]]) -> None:
        self.place = place
        self.begin = begin
        self.pieces: Iterator[Arrays] | None = None

    async def take(self) -> Arrays | None:
        """The next piece. Raises Broken ``model_failed`` for whatever the generator raises."""
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

        def settle(outcomes: list[Outcome]) -> None:
            if not future.done():
                future.set_result(outcomes)

        self.place.run(self._step, settle)
        outcomes = await future
        if not outcomes:
            return None
        if isinstance(outcomes[0], ForetellError):
            raise outcomes[0]
        return outcomes[0]

    def close(self) -> None:
        """Have the generator closed, behind the step that may still run."""
        self.place.run(self._close, lambda outcomes: None)

    def _step(self) -> list[Outcome]:
        try:
            if self.pieces is None:
                self.pieces = iter(self.begin())
            piece = next(self.pieces, None)
        except ForetellError as error:
            return [error]
        except KeyboardInterrupt:
            raise
        except BaseException as cause:  # noqa: BLE001 - one step of a stream: whatever a model raises is its caller's answer
            broken = Broken("model_failed", "the model raised an error on this input")
            broken.__cause__ = cause
            return [broken]
        return [] if piece is None else [piece]

    def _close(self) -> list[Outcome]:
        close = getattr(self.pieces, "close", None)  # an iterator that is no generator may have nothing to close
        if close is not None:
            try:
                close()
            except KeyboardInterrupt:
                raise
            except BaseException:
                log.exception("a stream of the model failed while it was closed")
        return []


async def _run(engine: Runs, steps: Callable[[Arrays], Arrays], arrays: Arrays) -> Arrays:
    return await asyncio.to_thread(steps, arrays) if engine.pipeline.slow else steps(arrays)


async def _within(step: Coroutine[Any, Any, Arrays | None], left_s: float) -> Arrays | None:
    """A step's piece. Raises Late when it takes longer."""
    try:
        async with asyncio.timeout(None if left_s == NO_DEADLINE else max(0.0, left_s)):
            return await step
    except TimeoutError as error:
        raise _late() from error


def _late() -> Late:
    text = "the deadline passed before the answer was whole, and taken"
    return Late("deadline_passed", text, phase="in the model")
