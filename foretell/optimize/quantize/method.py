"""What every way of quantizing offers: layers, any of which can be left as they are."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Place:
    """One layer of a graph that a method could change: the name and the operator of its node."""

    name: str
    kind: str


class Method(Protocol):
    """Made once for a graph, with whatever is learnt from rows; then any choice of layers can be written."""

    @property
    def layers(self) -> Sequence[Place]: ...

    @property
    def remarks(self) -> Sequence[str]:
        """What a reader of the report should know of this method."""

    def write(self, taken: Collection[str], target: Path) -> None:
        """The model with the layers ``taken`` changed and all others as they are. Raises Setup ``unsupported_graph``."""
