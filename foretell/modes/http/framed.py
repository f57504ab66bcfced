"""How an answer is written: in its door's plain JSON, or in the form that its request asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from foretell.modes.http.status import JSON_HEADERS, Answer
from foretell.request import Request
from foretell.tensors import Arrays

ON_LOOP_BYTES = 64 * 2**10  # more than this is parsed and written in a thread, so that nobody else waits for it
COPIED_ON_LOOP_BYTES = 4 * 2**20  # the same for what is only copied: a thread would cost more


@dataclass(slots=True)
class FramedRequest(Request):
    """``frame`` writes the answer in the form that this request asked for; ``copies_only``: that takes no more than a copy."""

    frame: Callable[[Arrays], Answer] = field(kw_only=True)
    copies_only: bool = field(default=False, kw_only=True)


class Writer(Protocol):
    """What a door is, as far as its answers go."""

    def write(self, request: Request, outputs: Arrays) -> bytes: ...


def write_answer(door: Writer, request: Request, outputs: Arrays) -> Answer:
    """The answer in the form that the request asked for, or in its door's."""
    if isinstance(request, FramedRequest):
        return request.frame(outputs)
    return Answer(200, JSON_HEADERS, door.write(request, outputs))


def is_soon_written(request: Request, outputs: Arrays) -> bool:
    """Whether the answer takes so little to write that the loop may do it."""
    size = 0
    for array in outputs.values():
        size += array.nbytes
    if size <= ON_LOOP_BYTES:
        return True
    return isinstance(request, FramedRequest) and request.copies_only and size <= COPIED_ON_LOOP_BYTES
