"""A request whose answer is not its door's plain JSON."""

from collections.abc import Callable
from dataclasses import dataclass, field

from foretell.modes.http.status import Answer
from foretell.request import Request
from foretell.tensors import Arrays


@dataclass(slots=True)
class FramedRequest(Request):
    """``frame`` writes the answer in the form that this request asked for."""

    frame: Callable[[Arrays], Answer] = field(kw_only=True)
