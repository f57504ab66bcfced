"""One pipeline, run for many callers. Everything that can fail because of one caller happens outside the batch."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from foretell.engine.batcher import Batcher, Entry
from foretell.engine.placement import Inline, Threaded, WarmUp, choose_place, warm_up
from foretell.errors import Broken, Cancelled, ForetellError
from foretell.passage import Observer, Passage
from foretell.pipeline import Pipeline
from foretell.request import Request
from foretell.settings import EngineSettings
from foretell.tensors import Arrays

log = logging.getLogger("foretell")
Reply = Callable[[Arrays | None, ForetellError | None], None]


class Engine:
    """``start`` warms the model and opens the queue; ``infer`` answers one request; ``stop`` closes the model."""

    place: Inline | Threaded
    batcher: Batcher

    def __init__(
        self,
        name: str,
        version: str,
        pipeline: Pipeline,
        settings: EngineSettings,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.version = version
        self.pipeline = pipeline
        self.settings = settings
        self.observers = tuple(observers)
        self.clock = clock
        self.warm = WarmUp(0.0, None)
        self.ready = False
        self.quick = False  # whether an answer takes one tick of the loop, with nothing to wait for
        self.in_flight = 0

    async def start(self) -> None:
        """Warm the model up, choose its place by what that measured, and become ready."""
        self.warm = await asyncio.to_thread(warm_up, self.pipeline.model, self.settings.max_batch_rows)
        self.place = choose_place(self.warm, self.settings.inline_below_us)
        model = self.pipeline.model
        self.batcher = Batcher(model.forward, model.signature, self.place, self.settings, self.clock)
        self.quick = isinstance(self.place, Inline) and not self.pipeline.slow
        self.ready = True

    async def infer(self, request: Request) -> Arrays:
        """The pipeline's answer to one request. Raises what the caller is to be told."""
        if not self.pipeline.slow:
            return await self._infer_on_loop(request)
        with _Observed(self, request) as passage:
            features = await asyncio.to_thread(self.pipeline.prepare, request.inputs)
            output = await self.batcher.submit(features, request.deadline, passage)
            return await asyncio.to_thread(self.pipeline.finish, output)

    def infer_nowait(self, request: Request, reply: Reply) -> Entry:
        """``infer`` for a caller on the loop's thread with no slow steps to wait for: no task, no future.

        ``reply`` is called once with the answer or the error. The entry that is returned can be given to ``cancel``.
        """
        journey = _Journey(self, request, reply)
        try:
            features = self.pipeline.prepare(request.inputs)
            journey.load(features, self.pipeline.model.signature.count_rows(features), request.deadline, journey.passage)
            self.batcher.submit_nowait(journey)
        except ForetellError as error:
            journey.fail(error)
        except BaseException as error:  # a mistake of ours: told to the observers, then to the mode
            self.conclude(journey.passage, _told(error))
            raise
        return journey

    def cancel(self, journey: Entry) -> None:
        """Take back a request of ``infer_nowait``: it is told to the observers, but not answered."""
        if journey.wanted:
            self.batcher.cancel(journey)
            self.conclude(journey.passage, Cancelled("cancelled", "the caller went away before the answer"))

    def refuse(self, request: Request, error: ForetellError) -> None:
        """Tell the observers of a request that a mode refused before it came here."""
        self.conclude(self.open(request), error)

    def open(self, request: Request) -> Passage:
        """A passage for a request that has just come; it must be given to ``conclude``."""
        self.in_flight += 1
        return Passage(self.name, self.version, request.mode, request.received, request.id)

    def conclude(self, passage: Passage, error: ForetellError | None = None) -> None:
        """Show a finished passage to every observer."""
        self.in_flight -= 1
        passage.ended = self.clock()
        passage.error = error
        for observer in self.observers:
            try:
                observer(passage)
            except Exception:
                log.exception("an observer failed")

    async def halt(self) -> None:
        """Refuse what waits and let what runs end; the pipeline stays open. Harmless when not started."""
        if self.ready:
            self.ready = False
            self.batcher.close()
            while self.batcher.running:
                await asyncio.sleep(0.005)
            self.place.close()

    async def stop(self) -> None:
        """Halt, and close the pipeline."""
        await self.halt()
        self.pipeline.close()

    async def _infer_on_loop(self, request: Request) -> Arrays:
        """``infer`` with quick steps: the awaiting form of ``infer_nowait``."""
        future: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()

        def reply(outputs: Arrays | None, error: ForetellError | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            elif outputs is not None:
                future.set_result(outputs)

        journey = self.infer_nowait(request, reply)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel(journey)
            raise


class _Observed:
    """``with _Observed(engine, request) as passage``: whatever ends the block, the observers are told."""

    __slots__ = ("engine", "passage")

    def __init__(self, engine: Engine, request: Request) -> None:
        self.engine = engine
        self.passage = engine.open(request)

    def __enter__(self) -> Passage:
        return self.passage

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.engine.conclude(self.passage, None if error is None else _told(error))


def _told(error: BaseException) -> ForetellError:
    """What the observers are told of whatever ended a request."""
    if isinstance(error, ForetellError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return Cancelled("cancelled", "the caller went away before the answer")
    return Broken("internal", "the server made a mistake on this request")


class _Journey(Entry):
    """A request of ``infer_nowait`` on its way through the queue."""

    __slots__ = ("engine", "reply")

    def __init__(self, engine: Engine, request: Request, reply: Reply) -> None:
        self.engine = engine
        self.reply = reply
        self.passage = engine.open(request)
        self.wanted = False

    def answer(self, outputs: Arrays) -> None:
        try:
            outputs = self.engine.pipeline.finish(outputs)
        except ForetellError as error:
            self.fail(error)
        else:
            self.engine.conclude(self.passage)
            self.reply(outputs, None)

    def fail(self, error: ForetellError) -> None:
        self.wanted = False
        self.engine.conclude(self.passage, error)
        self.reply(None, error)
