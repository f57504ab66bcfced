"""The memory that all models together may take: which of them makes room for others, and when it comes back."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from foretell.errors import Setup, Unavailable
from foretell.passage import Passage

RETRY_S = 10.0  # a model that could not be loaded again is not tried again before


@dataclass(frozen=True)
class Evicted:
    """A model that made room for others: what of it was served, and what loading it took."""

    versions: tuple[str, ...]
    bytes: int
    seconds: float


class Budget:
    """``most_bytes`` of 0 is no limit. It is an observer, so that it knows which model was used when."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.evicted: dict[str, Evicted] = {}
        self._used: dict[str, float] = {}
        self._due: dict[str, float] = {}  # when a model that was called back is expected, or may be tried again

    def __call__(self, passage: Passage) -> None:
        self._used[passage.model] = passage.ended

    def check(self, name: str, needed: int, pinned: int) -> None:
        """Raises Setup ``over_memory`` for a model that does not fit beside those that are pinned; sizes in bytes."""
        if self.most_bytes and needed + pinned > self.most_bytes:
            beside = f", of which pinned models take {_mib(pinned)}" if pinned else ""
            text = (
                f"model {name!r} takes {_mib(needed)} of memory, but there are {_mib(self.most_bytes)} for all models of a "
                f"worker{beside}: raise repository.memory_bytes, or export a smaller model"
            )
            raise Setup("over_memory", text, needed_bytes=needed, limit_bytes=self.most_bytes)

    def choose(self, sizes: Mapping[str, int], kept: Collection[str], needed: int = 0) -> str | None:
        """The model that goes next, of those that are not ``kept``; None while all fit, or when none may go."""
        if not self.most_bytes or sum(sizes.values()) + needed <= self.most_bytes:
            return None
        return min((name for name in sizes if name not in kept), key=lambda name: self._used.get(name, 0.0), default=None)

    def used(self, name: str, now: float) -> None:
        """A model that has just been loaded was not left unused for long."""
        self._used[name] = now

    def call_back(self, name: str, now: float) -> bool:
        """Whether to begin loading a model again: not while it is expected, nor soon after it failed."""
        if self._due.get(name, 0.0) > now:
            return False
        self._due[name] = now + max(1.0, self.evicted[name].seconds)
        return True

    def failed(self, name: str, now: float) -> None:
        """It could not be loaded again."""
        self._due[name] = now + RETRY_S

    def came(self, name: str) -> None:
        """It is loaded again, or taken out for good."""
        self.evicted.pop(name, None)
        self._due.pop(name, None)

    def refusal(self, name: str, now: float) -> Unavailable:
        """What those are told who ask for a model that is being loaded again."""
        wait_s = max(1, math.ceil(self._due.get(name, now) - now))
        text = f"model {name!r} had made room for others, and is being loaded again: try again in {wait_s} s"
        return Unavailable("not_ready", text, retry_after_s=wait_s)


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
