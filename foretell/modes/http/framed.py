"""A request whose answer is not its door's plain JSON."""

from collections.abc import Callable
from dataclasses import dataclass, field

from foretell.modes.http.status import Answer
from foretell.request import Request
from foretell.tensors import Arrays

ON_LOOP_BYTES = 64 * 2**10  # more than this is parsed and written in a thread, so that nobody else waits for it
COPIED_ON_LOOP_BYTES = 4 * 2**20  # the same for what is only copied: a thread would cost more


@dataclass(slots=True)
class FramedRequest(Request):
    """``frame`` writes the answer in the form that this request asked for; ``copies_only``: that takes no more than a copy."""

    frame: Callable[[Arrays], Answer] = field(kw_only=True)
    copies_only: bool = field(default=False, kw_only=True)


def is_soon_written(request: Request, outputs: Arrays) -> bool:
    """Whether the answer takes so little to write that the loop may do it."""
    most_bytes = COPIED_ON_LOOP_BYTES if isinstance(request, FramedRequest) and request.copies_only else ON_LOOP_BYTES
    return sum([array.nbytes for array in outputs.values()]) <= most_bytes
