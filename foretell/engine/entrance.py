"""Where requests come to a model: straight to its batcher, or to what stands before it."""

import asyncio
from abc import ABC, abstractmethod

from foretell.engine.queue import Entry
from foretell.errors import ForetellError
from foretell.passage import Passage
from foretell.request import NORMAL
from foretell.tensors import Arrays, Signature


class Entrance(ABC):
    """Where entries come in: the batcher itself, or what stands before it."""

    signature: Signature

    @abstractmethod
    def submit_nowait(self, entry: Entry) -> None:
        """Take an entry in, to be answered once. Raises what it is refused with."""

    @abstractmethod
    def cancel(self, entry: Entry) -> None:
        """Forget an entry: it is not run if it still waits, and not answered if it is running."""

    async def submit(self, rows: Arrays, deadline: float, passage: Passage, caller: str = "", priority: int = NORMAL) -> Arrays:
        """The outputs for ``rows``: the awaiting form of ``submit_nowait``. Cancelling it takes the rows back."""
        future: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        entry = _Awaited(future)
        entry.load(rows, self.signature.count_rows(rows), deadline, passage, caller, priority)
        self.submit_nowait(entry)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel(entry)
            raise


class _Awaited(Entry):
    """The entry of a caller that awaits a future."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Arrays]) -> None:
        self.future = future

    def answer(self, outputs: Arrays) -> None:
        if not self.future.done():
            self.future.set_result(outputs)

    def fail(self, error: ForetellError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
