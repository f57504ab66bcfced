"""The one connection that writes: calls that come while it is busy share the next transaction, and so its one fsync."""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from foretell.errors import Unavailable
from foretell.jobs.stores.sqlite.file import refusals

T = TypeVar("T")
Run = Callable[..., sqlite3.Cursor]
"""Runs one statement with its values."""


@dataclass(eq=False)
class Turn(Generic[T]):
    """What one caller wants done, and what came of it."""

    work: Callable[[Run], T]
    durable: bool
    result: T | None = None
    error: Exception | None = None
    over: bool = False


class Writer:
    """Whoever finds the connection free writes for all who wait. Nobody's failure is another's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._waiting: deque[Turn[Any]] = deque()
        self._busy = threading.Lock()

    def __call__(self, work: Callable[[Run], T], *, durable: bool = True) -> T:
        """Do ``work`` in a transaction. If not ``durable``, a power cut (nothing less) may undo it after this returns.

        ``work`` may be run twice, the first time in vain. Raises what it raises, and Unavailable.
        """
        turn = Turn(work, durable)
        self._waiting.append(turn)
        with self._busy:
            if not turn.over:
                self._write_for_all(turn)
        if turn.error is not None:
            raise turn.error
        return turn.result  # type: ignore[return-value] # it is over: this is what the work gave

    def close(self) -> None:
        with self._busy:
            self.connection.close()

    def _write_for_all(self, own: Turn[Any]) -> None:
        turns = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if own not in turns:  # who led before was interrupted
            turns.append(own)
        if not self._try(turns):
            for turn in turns:  # one was at fault: alone, it fails alone
                self._try([turn])

    def _try(self, turns: list[Turn[Any]]) -> bool:
        """Do it all in one transaction. False if that failed for a reason which need not be everybody's."""
        results: list[Any] = [None] * len(turns)
        error: Exception | None = None
        try:
            with refusals():
                results = self._transact(turns)
        except Exception as raised:  # noqa: BLE001 - like a batch of rows: one caller's failure must not be its neighbours'
            if len(turns) > 1 and not isinstance(raised, Unavailable):
                return False
            error = raised
        for turn, result in zip(turns, results, strict=True):
            turn.result, turn.error, turn.over = result, error, True
        return True

    def _transact(self, turns: list[Turn[Any]]) -> list[Any]:
        run = self.connection.execute
        run(f"PRAGMA synchronous = {'FULL' if any(turn.durable for turn in turns) else 'NORMAL'}")
        run("BEGIN IMMEDIATE")
        try:
            results = [turn.work(run) for turn in turns]
            run("COMMIT")
            return results
        finally:
            if self.connection.in_transaction:
                run("ROLLBACK")
