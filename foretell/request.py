"""One question to one model, as every mode hands it to an engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from foretell.tensors import Arrays

NO_DEADLINE = float("inf")


@dataclass(slots=True)
class Request:
    """``deadline`` and ``received`` are absolute ``time.monotonic()`` seconds; ``parameters`` is what the client sent."""

    inputs: Arrays
    received: float
    deadline: float = NO_DEADLINE
    id: str | None = None
    mode: str = "python"
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
