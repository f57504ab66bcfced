"""The one connection that writes: calls that come while it is busy share the next transaction, and so its one fsync."""

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from foretell.errors import Unavailable
from foretell.jobs.stores.sqlite.file import refusals

T = TypeVar("T")
Run = Callable[..., sqlite3.Cursor]
"""Runs one statement with its values."""


def _interrupted() -> Exception:
    return Unavailable("store_unreachable", "the store of jobs was interrupted: try again")


@dataclass(eq=False)
class Turn(Generic[T]):
    """What one caller wants done, and what came of it; ``error`` is what to raise if whoever led was interrupted."""

    work: Callable[[Run], T]
    durable: bool
    result: T | None = None
    error: Exception | None = field(default_factory=_interrupted)
    leads: bool = False
    woken: threading.Event = field(default_factory=threading.Event)


class Writer:
    """Whoever comes first writes for all who wait, then lets one of those who came meanwhile do so.

    Nobody's failure is another's.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._waiting: list[Turn[Any]] = []
        self._is_led = False
        self._lock = threading.Lock()

    def __call__(self, work: Callable[[Run], T], *, durable: bool = True) -> T:
        """Do ``work`` in a transaction. If not ``durable``, a power cut (nothing less) may undo it after this returns.

        ``work`` may be run twice, the first time in vain. Raises what it raises, and Unavailable.
        """
        turn = Turn(work, durable)
        with self._lock:
            self._waiting.append(turn)
            turn.leads, self._is_led = not self._is_led, True
        if not turn.leads:
            turn.woken.wait()
        if turn.leads:
            self._lead()
        if turn.error is not None:
            raise turn.error
        return turn.result  # type: ignore[return-value] # it is over: this is what the work gave

    def close(self) -> None:
        self(lambda run: None, durable=False)
        self.connection.close()

    def _lead(self) -> None:
        with self._lock:
            turns, self._waiting = self._waiting, []
        try:
            if not self._try(turns):
                for turn in turns:  # one was at fault: alone, it fails alone
                    self._try([turn])
        finally:
            for turn in turns:
                turn.woken.set()
            with self._lock:
                self._is_led = bool(self._waiting)
                for turn in self._waiting[:1]:
                    turn.leads = True
                    turn.woken.set()

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
            turn.result, turn.error = result, error
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
