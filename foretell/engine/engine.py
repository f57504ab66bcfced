"""One pipeline, run for many callers. Everything that can fail because of one caller happens outside the batch."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TypeVar

from foretell.backends import Streaming, isolated_parts
from foretell.engine.batcher import Batcher
from foretell.engine.cache import Answers
from foretell.engine.entrance import Entrance
from foretell.engine.parameters import model_parameters, read_priority
from foretell.engine.placement import Inline, Threaded
from foretell.engine.queue import Entry
from foretell.engine.stream import stream
from foretell.engine.suspects import Suspects
from foretell.engine.warmup import WarmUp, choose_place, warm_up
from foretell.errors import Broken, Cancelled, ForetellError
from foretell.passage import Counting, Observer, Passage
from foretell.pipeline import Pipeline
from foretell.request import NORMAL, URGENT, Request
from foretell.settings import EngineSettings
from foretell.tensors import Arrays

log = logging.getLogger("foretell")
Reply = Callable[[Arrays | None, ForetellError | None], None]
Seen = TypeVar("Seen")
After = Callable[[Request, Arrays], None]
"""Shown a request and its answer, once that was given; never blocks, and never raises."""


class Engine:
    """``start`` warms the model and opens the queue; ``infer`` answers one request; ``stop`` closes the model."""

    place: Inline | Threaded
    batcher: Batcher
    entrance: Entrance

    def __init__(
        self,
        name: str,
        version: str,
        pipeline: Pipeline,
        settings: EngineSettings,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.monotonic,
        suspects: Suspects | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.pipeline = pipeline
        self.settings = settings
        self.observers = tuple(observers)
        self._counting = tuple(each for each in observers if isinstance(each, Counting))
        self._others = tuple(each for each in observers if not isinstance(each, Counting))
        self._given: list[_Journey] = []  # those of the call that is being answered, with their answers
        self.clock = clock
        self.suspects = Suspects() if suspects is None and settings.isolation == "process" else suspects
        self.warm = WarmUp(0.0, None)
        self._open = False
        self._isolated = tuple(isolated_parts(pipeline.model))
        self.quick = False  # whether an answer takes one tick of the loop, with nothing to wait for
        self.in_flight = 0
        self.streaming = 0  # answers in pieces that are being given
        self.after: After | None = None
        self.memory_bytes = 0  # what loading and warming it took

    @property
    def ready(self) -> bool:
        """Whether it answers: started, not halted, and its model's own process, if it has one, is there."""
        return self._open and (not self._isolated or self.outage is None)

    @ready.setter
    def ready(self, value: bool) -> None:
        self._open = value

    @property
    def outage(self) -> str | None:
        """Why the model's own process does not answer at this moment; None when it does, or there is none."""
        return next((part.outage for part in self._isolated if part.outage is not None), None)

    @property
    def given_up(self) -> bool:
        """Whether the model's own process is not started any more, until the model is loaded again."""
        return any(part.given_up for part in self._isolated)

    @property
    def whereabouts(self) -> str:
        """Where forwards run: ``inline`` in the event loop, in a ``thread``, or in a ``process`` of the model's own."""
        return "process" if self._isolated else self.place.name

    def kill_process(self) -> None:
        """End the model's own process, if it has one, with the call that is in it; another is started."""
        for part in self._isolated:
            part.kill()

    async def start(self) -> None:
        """Warm the model up, choose its place by what that measured, and become ready."""
        self.warm = await asyncio.to_thread(warm_up, self.pipeline.model, self.settings.max_batch_rows)
        model = self.pipeline.model
        streams = isinstance(model, Streaming)  # its steps were not measured
        self.place = Threaded() if streams else choose_place(self.warm, self.settings.inline_below_us)
        self.batcher = Batcher(model.forward, model.signature, self.place, self.settings, self.clock, self.suspects)
        self.batcher.end_call = self.kill_process if self._isolated else None
        self.batcher.service.learn(1, self.warm.forward_s or 0.0)
        is_plain = not (self.settings.share_duplicates or self.settings.cache_bytes)
        self.entrance = self.batcher if is_plain else Answers(self.batcher, copies=bool(self.pipeline.postprocess))
        self.quick = isinstance(self.place, Inline) and not self.pipeline.slow
        self.ready = True

    async def infer(self, request: Request) -> Arrays:
        """The pipeline's answer to one request. Raises what the caller is to be told."""
        if not self.pipeline.slow:
            return await self._infer_on_loop(request)
        with _Observed(self, request) as passage:
            request.passage = passage
            features = await asyncio.to_thread(self.pipeline.prepare, request.inputs)
            output = await self.entrance.submit(features, request.deadline, passage, request.caller, self.rank(request))
            outputs = await asyncio.to_thread(self.pipeline.finish, output)
        if self.after is not None:
            self.after(request, outputs)
        return outputs

    def stream(self, request: Request) -> AsyncGenerator[Arrays, None]:
        """The answer in pieces, as they come; close it when they are no longer wanted. Raises what the caller is to be told."""
        return stream(self, request)

    def infer_nowait(self, request: Request, reply: Reply) -> Entry:
        """``infer`` for a caller on the loop's thread with no slow steps to wait for: no task, no future.

        ``reply`` is called once with the answer or the error. The entry that is returned can be given to ``cancel``.
        """
        journey = _Journey(self, request, reply)
        try:
            features = self.pipeline.prepare(request.inputs)
            journey.load(
                features, self.batcher.signature.count_rows(features), request.deadline, journey.passage, request.caller
            )
            if request.parameters or request.priority != NORMAL:
                journey.priority, journey.apart = self.rank(request), model_parameters(request.parameters)
            self.entrance.submit_nowait(journey)
        except ForetellError as error:
            journey.fail(error)
        except BaseException as error:  # a mistake of ours: told to the observers, then to the mode
            self.conclude(journey.passage, _told(error))
            raise
        return journey

    def cancel(self, journey: Entry) -> None:
        """Take back a request of ``infer_nowait``: it is told to the observers, but not answered."""
        if journey.wanted:
            self.entrance.cancel(journey)
            self.conclude(journey.passage, Cancelled("cancelled", "the caller went away before the answer"))

    def refuse(self, request: Request, error: ForetellError) -> None:
        """Tell the observers of a request that a mode refused before it came here."""
        self.conclude(self.open(request), error)

    def open(self, request: Request) -> Passage:
        """A passage for a request that has just come; it must be given to ``conclude``."""
        self.in_flight += 1
        passage = Passage(self.name, self.version, request.mode, request.received, request.id)
        if request.marks:
            passage.marks = request.marks
        return passage

    def conclude(self, passage: Passage, error: ForetellError | None = None) -> None:
        """Show a finished passage to every observer."""
        self.in_flight -= 1
        passage.ended = self.clock()
        passage.error = error
        for observer in self.observers:
            self._show(observer, passage, passage)

    def _conclude_all(self, passages: Sequence[Passage]) -> None:
        """``conclude`` of those that one call answered."""
        self.in_flight -= len(passages)
        ended = self.clock()
        for passage in passages:
            passage.ended = ended
        for counting in self._counting:
            self._show(counting.see_all, passages, passages[0])
        for observer in self._others:
            for passage in passages:
                self._show(observer, passage, passage)

    def _show(self, observer: Callable[[Seen], None], seen: Seen, passage: Passage) -> None:
        try:
            observer(seen)
        except Exception:
            log.exception("an observer failed", extra=passage.fields())

    def give(self, journey: "_Journey") -> None:
        """Answer a journey that has its outputs; those of one call are concluded together, before the first is answered."""
        self._given.append(journey)
        if len(self._given) == 1:
            self.batcher.afterwards(self._reply_all)

    def _reply_all(self) -> None:
        given, self._given = self._given, []
        if len(given) == 1:
            self.conclude(given[0].passage)
        else:
            self._conclude_all([journey.passage for journey in given])
        for journey in given:
            journey.reply(journey.outputs, None)
        if self.after is not None:
            for journey in given:
                self.after(journey.request, journey.outputs)

    async def halt(self) -> None:
        """Refuse what waits and let what runs end; the pipeline stays open. Harmless when not started."""
        if self._open:
            self._open = False
            self.batcher.close()
            while self.batcher.running or self.streaming:
                await asyncio.sleep(0.005)
            self.place.close()

    async def stop(self) -> None:
        """Halt, and close the pipeline."""
        await self.halt()
        self.pipeline.close()

    def rank(self, request: Request) -> int:
        """The priority that a request gets: that of its parameters, if it is lower or `engine.urgent` allows it."""
        priority = request.priority
        if request.parameters and priority == NORMAL:
            priority = read_priority(request.parameters)
        return priority if priority != URGENT or self.settings.urgent else NORMAL

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
        request.passage = journey.passage
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

    __slots__ = ("engine", "outputs", "reply", "request")

    outputs: Arrays

    def __init__(self, engine: Engine, request: Request, reply: Reply) -> None:
        self.engine = engine
        self.request = request
        self.reply = reply
        self.passage = engine.open(request)
        self.wanted = False

    def answer(self, outputs: Arrays) -> None:
        try:
            self.outputs = self.engine.pipeline.finish(outputs)
        except ForetellError as error:
            self.fail(error)
        else:
            self.engine.give(self)

    def fail(self, error: ForetellError) -> None:
        self.wanted = False
        self.engine.conclude(self.passage, error)
        self.reply(None, error)
