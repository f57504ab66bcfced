"""Answers that need no call of the model: those that were kept, and those that are being computed for somebody else.

It stands before the batcher of one version of a model. What counts as the same is every byte, datatype and shape of what the
model would be given.
"""

import asyncio
from collections import OrderedDict
from typing import Any

from foretell.engine.batcher import Batcher
from foretell.engine.entrance import Entrance
from foretell.engine.queue import Entry
from foretell.errors import ForetellError, Late
from foretell.passage import Passage
from foretell.tensors import Array, Arrays

LARGEST_KEY = 2**20  # bytes of inputs above which nothing is looked up: that would hold everybody up
OVERHEAD = 512  # bytes that keeping an answer costs beside its inputs and outputs

Key = tuple[Any, ...]


class Kept:
    """Answers by what was asked, the least recently used of which go when they are over ``most_bytes``."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.size = 0
        self._answers: OrderedDict[Key, tuple[Arrays, int]] = OrderedDict()

    def get(self, key: Key) -> Arrays | None:
        found = self._answers.get(key)
        if found is None:
            return None
        self._answers.move_to_end(key)
        return found[0]

    def put(self, key: Key, asked: int, outputs: Arrays) -> None:
        """Keep a copy of an answer to ``asked`` bytes of inputs, unless it is larger than the whole."""
        size = asked + OVERHEAD + sum(map(_size, outputs.values()))
        if size > self.most_bytes or key in self._answers:
            return
        self._answers[key] = {name: _frozen(array.copy()) for name, array in outputs.items()}, size
        self.size += size
        while self.size > self.most_bytes:
            _, (_, freed) = self._answers.popitem(last=False)
            self.size -= freed


class Answers(Entrance):
    """The entrance of a batcher whose settings ask to share or to keep answers. ``copies``: answers will be written to."""

    def __init__(self, batcher: Batcher, *, copies: bool) -> None:
        self.batcher = batcher
        self.signature = batcher.signature
        self.copies = copies
        self.shares = batcher.settings.share_duplicates
        self.kept = Kept(batcher.settings.cache_bytes)
        self.joined_rows = 0  # of those that wait for what is computed for another
        self._computed: dict[Key, Shared] = {}
        self._shared_of: dict[Entry, Shared] = {}

    def submit_nowait(self, entry: Entry) -> None:
        """Answer at once what was kept, let a duplicate wait with the first, and send what is new to the batcher."""
        key = key_of(entry)
        if key is None or self.batcher.closed:
            self.batcher.submit_nowait(entry)
            return
        entry.passage.cached = False
        outputs = self.kept.get(key)
        if outputs is not None:
            self._answer_kept(entry, outputs)
            return
        shared = self._computed.get(key) if self.shares else None
        if shared is None:
            self._compute(key, entry)
        else:
            self._join(shared, entry)

    def cancel(self, entry: Entry) -> None:
        """Forget a caller; what is computed goes on as long as another waits for it."""
        shared = self._shared_of.get(entry)
        if shared is None:
            self.batcher.cancel(entry)
        elif entry.wanted:
            entry.wanted = False
            self.leave(shared, entry)

    def leave(self, shared: "Shared", entry: Entry) -> None:
        """One caller of a shared computation waits no longer."""
        del self._shared_of[entry]
        del shared.callers[entry]
        self.joined_rows -= entry.count
        if not shared.callers:
            self.batcher.cancel(shared)
            self.settle(shared)

    def settle(self, shared: "Shared") -> list[Entry]:
        """A computation is over: nobody joins it any more. Gives those who wait for it."""
        if self._computed.get(shared.key) is shared:
            del self._computed[shared.key]
        if shared.timer is not None:
            shared.timer.cancel()
        callers = list(shared.callers)
        for entry in callers:
            del self._shared_of[entry]
            self.joined_rows -= entry.count
        shared.callers.clear()
        return callers

    def _answer_kept(self, entry: Entry, outputs: Arrays) -> None:
        passage = entry.passage
        passage.cached = True
        passage.queued = passage.started = passage.computed = self.batcher.clock()
        entry.wanted = False
        entry.answer(self.given(outputs))

    def given(self, outputs: Arrays) -> Arrays:
        """What one of several callers gets: its own, or what nobody can write to."""
        if self.copies:
            return {name: array.copy() for name, array in outputs.items()}
        return {name: _frozen(array.view()) for name, array in outputs.items()}

    def _compute(self, key: Key, entry: Entry) -> None:
        passage = entry.passage
        shared = Shared(self, key)
        shared.load(
            entry.rows, entry.count, entry.deadline, Passage(passage.model, passage.version, passage.mode, passage.received)
        )
        shared.caller, shared.priority, shared.apart = entry.caller, entry.priority, entry.apart
        self.batcher.submit_nowait(shared)
        self._add(shared, entry)
        if self.shares:
            self._computed[key] = shared

    def _join(self, shared: "Shared", entry: Entry) -> None:
        now = self.batcher.clock()
        if entry.deadline <= now or self.joined_rows + entry.count > self.batcher.settings.queue_rows:
            self.batcher.submit_nowait(entry)  # which refuses it
            return
        self._add(shared, entry)
        entry.passage.queued = now
        entry.passage.cached = True
        if not shared.waits or shared.due == shared.deadline:
            shared.due = max(shared.due, entry.deadline)
        shared.deadline = max(shared.deadline, entry.deadline)
        shared.watch(now)

    def _add(self, shared: "Shared", entry: Entry) -> None:
        shared.callers[entry] = None
        self._shared_of[entry] = shared
        self.joined_rows += entry.count
        if shared.passage is not entry.passage:
            entry.passage.queued = shared.passage.queued


class Shared(Entry):
    """One computation, for all who ask for it while it waits or runs. It lives until the last of them has gone."""

    __slots__ = ("answers", "callers", "key", "timer")

    def __init__(self, answers: Answers, key: Key) -> None:
        self.answers = answers
        self.key = key
        self.callers: dict[Entry, None] = {}
        self.timer: asyncio.TimerHandle | None = None

    def watch(self, now: float) -> None:
        """Tell each of several callers when its own time is up."""
        if self.timer is not None:
            self.timer.cancel()
        soonest = min(entry.deadline for entry in self.callers)
        if soonest < self.deadline:
            self.timer = asyncio.get_running_loop().call_later(max(0.0, soonest - now), self._expire)

    def answer(self, outputs: Arrays) -> None:
        asked = self.size
        callers = self.answers.settle(self)
        self.answers.kept.put(self.key, asked, outputs)
        for entry in callers:
            self._stamp(entry.passage)
            if entry.wanted:
                entry.wanted = False
                entry.answer(outputs if len(callers) == 1 else self.answers.given(outputs))

    def fail(self, error: ForetellError) -> None:
        for entry in self.answers.settle(self):
            self._stamp(entry.passage)
            if entry.wanted:
                entry.wanted = False
                entry.fail(error)

    def _stamp(self, passage: Passage) -> None:
        own = self.passage
        passage.batch_rows = own.batch_rows
        passage.started = own.started and max(own.started, passage.queued)
        passage.computed = own.computed and max(own.computed, passage.started)

    def _expire(self) -> None:
        self.timer = None
        now = self.answers.batcher.clock()
        for entry in [entry for entry in self.callers if entry.deadline <= now]:
            self.answers.leave(self, entry)
            entry.wanted = False
            waited_ms = round((now - entry.passage.received) * 1000, 1)
            text = f"the deadline passed while the same was computed for another, after {waited_ms:g} ms"
            entry.fail(Late("deadline_passed", text, phase="total", waited_ms=waited_ms))
        if self.callers:
            self.watch(now)


def key_of(entry: Entry) -> Key | None:
    """What makes two requests the same, compared as a whole; None for what is not to be shared."""
    if entry.size > LARGEST_KEY or entry.apart is not None:
        return None
    parts: list[Any] = [entry.priority]
    for name, array in entry.rows.items():
        if array.dtype.hasobject:
            items = tuple(array.reshape(-1).tolist())
            if sum(map(len, items)) > LARGEST_KEY or not all(type(item) is bytes for item in items):
                return None
            parts += (name, array.shape, items)
        else:
            parts += (name, array.dtype.str, array.shape, array.tobytes())
    return tuple(parts)


def _size(array: Array) -> int:
    own: int = array.nbytes
    return own + (sum(len(item) + 40 for item in array.reshape(-1).tolist()) if array.dtype.hasobject else 0)


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array
