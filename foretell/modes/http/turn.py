"""What a connection of the fast lane keeps where uvicorn keeps its own: the request in flight, and the flow of bytes."""

from asyncio import Event
from collections.abc import Callable, Sized
from functools import partial
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from foretell.engine.queue import Entry
from foretell.errors import ForetellError
from foretell.modes.http.collected import Collected
from foretell.modes.http.doors import Door
from foretell.modes.http.framed import FramedRequest, is_soon_written, write_answer
from foretell.modes.http.heads import Heads
from foretell.modes.http.status import JSON_HEADERS, Answer, refusal, unexpected
from foretell.request import Request
from foretell.tensors import Arrays

NONE = Request({}, 0.0)
JSON = b"content-type: application/json\r\n"


class Lane(Protocol):
    """The connection, as a turn needs it."""

    def answer(self, answer: Answer) -> None: ...

    def tell(self, answer: Answer) -> None: ...

    def tell_later(self, make: Callable[[], Answer]) -> None: ...

    def write_json(self, body: bytes) -> None: ...


class Turn:
    """A connection's request in the lane. It stands where uvicorn keeps its own, so that what is pipelined behind waits.

    ``making``: whether its answer is being made, in a thread.
    """

    door: Door

    def __init__(self, lane: Lane, most_plain: int) -> None:
        self.lane = lane
        self.most_plain = most_plain  # bytes of an answer that are not compressed
        self.collected = Collected()
        self.making = False
        self.request = NONE
        self.entry: Entry | None = None
        self.heads = Heads([])
        # what uvicorn reads and sets on the request in flight
        self.response_complete = True
        self.keep_alive = True
        self.disconnected = False
        self.more_body = False
        self.body = bytearray()
        self.message_event = Event()

    def reply(self, outputs: Arrays | None, error: ForetellError | None) -> None:
        """Write the one answer: called by the engine, or with a refusal."""
        self.entry = None
        request, self.request = self.request, NONE  # an idle connection holds nothing
        if outputs is not None:
            try:
                if not is_soon_written(request, outputs):
                    self.lane.tell_later(partial(write_answer, self.door, request, outputs))
                    return
                if isinstance(request, FramedRequest):
                    self.lane.tell(request.frame(outputs))
                    return
                body = self.door.write(request, outputs)
                if len(body) > self.most_plain:
                    self.lane.tell(Answer(200, JSON_HEADERS, body))
                else:
                    self.lane.write_json(body)
                return
            except Exception as mistake:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's 500
                error = unexpected(mistake)
        assert error is not None
        self.lane.answer(refusal(error, self.heads.marks, self.door.engine.name))


class Flow(FlowControl):
    """uvicorn's flow control, which also reads no more while requests wait in the pipeline: else they would pile up.

    ``resumptions``: how often a client that did not read its answers read on.
    """

    def __init__(self, transport: Any, pipeline: Sized) -> None:
        super().__init__(transport)
        self.pipeline = pipeline
        self.resumptions = 0

    def resume_reading(self) -> None:
        if not self.pipeline:
            super().resume_reading()

    def resume_writing(self) -> None:
        self.resumptions += 1
        super().resume_writing()
