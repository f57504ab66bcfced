"""A request whose answer is not its door's plain JSON."""

from collections.abc import Callable
from dataclasses import dataclass, field

from foretell.modes.http.status import Answer
from foretell.request import Request
from foretell.tensors import Arrays


@dataclass(slots=True)
class FramedRequest(Request):
    """``frame`` writes the answer in the form that this request asked for; ``copies_only``: that takes no more than a copy."""

    frame: Callable[[Arrays], Answer] = field(kw_only=True)
    copies_only: bool = field(default=False, kw_only=True)
