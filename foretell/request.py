"""One question to one model, as every mode hands it to an engine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from foretell.tensors import Arrays

NO_DEADLINE = float("inf")
URGENT, NORMAL, LOW, SHADOW = 1, 2, 3, 4

Marks = Iterable[tuple[bytes, bytes]]
"""What a caller sent to find its request again, as it came: ``(b"x-request-id", b"7")``, ``(b"traceparent", b"00-...")``."""


@dataclass(slots=True)
class Request:
    """``deadline`` and ``received`` are absolute ``time.monotonic()`` seconds; ``parameters`` is what the client sent.

    ``caller`` is who asks, as far as it is known: callers share a model fairly. ``priority`` is 1 (first) to 4 (last).
    ``marks`` are for the log. ``passage`` is the record of its journey, once an engine's ``infer`` has begun with it.
    """

    inputs: Arrays
    received: float
    deadline: float = NO_DEADLINE
    id: str | None = None
    mode: str = "python"
    caller: str = ""
    priority: int = NORMAL
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
    marks: Marks = ()
    passage: Any = None
