"""Chooses the version that answers a request which names none: by weight, or by who asks."""

import random
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from itertools import accumulate
from math import log

from foretell.engine.engine import Engine
from foretell.errors import Setup
from foretell.repository.split import Split


class Traffic:
    """``weights`` by version; ``sticky`` is the lower-case name of the header whose value is a caller's key, or empty.

    A key goes to the version with the best of one number for each, made from key and version (weighted rendezvous hashing): the
    same in every process, and a changed weight or version moves no more callers than it must.
    """

    def __init__(self, weights: Mapping[str, float], sticky: str = "", draw: Callable[[], float] = random.random) -> None:
        self.weights = dict(weights)
        self.sticky = sticky
        self.versions = list(weights)
        ends = list(accumulate(weights.values()))
        self._ends = [end / ends[-1] for end in ends[:-1]]
        self._draw = draw

    def pick(self, key: str | None = None) -> str:
        """The version for a key; without one, by chance."""
        if not key:
            return self.versions[bisect(self._ends, self._draw())]
        return max(self.versions, key=lambda version: self._rank(key, version))

    def _rank(self, key: str, version: str) -> float:
        """https://en.wikipedia.org/wiki/Rendezvous_hashing#Weighted_rendezvous_hash."""
        digest = blake2b(f"{version}\0{key}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return self.weights[version] / -log((int.from_bytes(digest) + 0.5) / 2**64)


def check_alike(name: str, split: Split | None, engines: Iterable[Engine]) -> None:
    """Raises Setup ``wrong_setting`` when versions that share callers, or get copies, do not take and give the same."""
    if split is None:
        return
    shared = [engine for engine in engines if engine.version in split.weights or engine.version == split.shadow]
    for engine in shared[1:]:
        first, other = shared[0].pipeline.signature, engine.pipeline.signature
        for what in ("inputs", "outputs", "rows"):
            if getattr(first, what) != getattr(other, what):
                told = f"{shared[0].version} has {_shown(first, what)}, version {engine.version} has {_shown(other, what)}"
                text = f"model {name!r}, versions: traffic and shadow need versions with the same signature, but version {told}"
                raise Setup("wrong_setting", text)


def _shown(signature: object, what: str) -> str:
    told = getattr(signature, what)
    if what == "rows":
        return "a batch axis" if told else "no batch axis"
    return f"the {what} {', '.join(map(str, told))}"
