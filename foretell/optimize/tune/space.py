"""What is tried: every candidate is a way to serve one model on this machine."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

BATCH_ROWS = (1, 4, 16, 64, 256)
WAITS = (0.0, 0.05, 0.25)
"""Shares of the objective's bound that a request may wait for others."""


@dataclass(frozen=True, order=True)
class Candidate:
    """One variant of the model (a runtime and a precision), served by so many workers with so many threads each."""

    workers: int
    variant: str
    threads: int
    batch_rows: int
    max_wait_s: float = 0.0

    def __str__(self) -> str:
        shown = f"{self.variant}, {self.workers} x {self.threads}, {self.batch_rows} rows"
        return f"{shown}, waits {self.max_wait_s * 1e3:g} ms" if self.max_wait_s else shown


@dataclass(frozen=True)
class Option:
    """A variant by its name, with the threads and the batches that make sense for it.

    ``threads`` empty: it has no threads of its own to set. ``batches``: whether rows may share a forward.
    """

    variant: str
    has_threads: bool = True
    batches: bool = True


@dataclass(frozen=True)
class Space:
    """All candidates: each option in each placement (workers, threads), with each number of batch rows and each wait."""

    options: Sequence[Option]
    placements: Sequence[tuple[int, int]]
    batch_rows: Sequence[int] = BATCH_ROWS
    waits_s: Sequence[float] = (0.0,)

    def coarse(self) -> list[Candidate]:
        """What the search begins with: every second number of batch rows, from the largest down, and the shortest wait."""
        return sorted(set(self._of(self.options, self.batch_rows[::-1][1::2] or self.batch_rows, self.waits_s[:1])))

    def whole(self) -> list[Candidate]:
        return sorted(set(self._of(self.options, self.batch_rows, self.waits_s)))

    def near(self, candidate: Candidate) -> list[Candidate]:
        """Those that differ in batch rows by at most one place, or in the wait."""
        options = [option for option in self.options if option.variant == candidate.variant]
        rows = options[0].batches and candidate.batch_rows in self.batch_rows
        at = self.batch_rows.index(candidate.batch_rows) if rows else 0
        around = self.batch_rows[max(at - 1, 0) : at + 2] if rows else (candidate.batch_rows,)
        found = {
            replace(candidate, batch_rows=many, max_wait_s=wait_s)
            for many in around
            for wait_s in (*self.waits_s, candidate.max_wait_s)
        }
        return sorted(each for each in found if each != candidate and _makes_sense(each))

    def _of(self, options: Sequence[Option], batch_rows: Sequence[int], waits_s: Sequence[float]) -> Iterator[Candidate]:
        for option, (workers, threads), rows, wait_s in itertools.product(options, self.placements, batch_rows, waits_s):
            made = Candidate(
                workers, option.variant, threads if option.has_threads else 1, rows if option.batches else 1, wait_s
            )
            if _makes_sense(made):
                yield made


def show_count(candidates: int) -> str:
    """``1 candidate``, ``2 candidates``."""
    return f"{candidates} candidate{'s' * (candidates != 1)}"


def placements(cpus: int) -> list[tuple[int, int]]:
    """Workers and threads of each that fill the CPUs or half of them, in steps of two; and one of each."""
    whole = {(workers, cpus // workers) for workers in _doubled(cpus)}
    half = {(workers, cpus // 2 // workers) for workers in _doubled(cpus // 2)}
    return sorted({(1, 1), *whole, *half})


def _doubled(most: int) -> list[int]:
    """1, 2, 4, ... and the number itself."""
    return sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), *([most] if most else [])})


def _makes_sense(candidate: Candidate) -> bool:
    """A batch of one row waits for nobody."""
    return candidate.batch_rows > 1 or candidate.max_wait_s == 0
