"""The queue before one model: bounded, urgent ones first, and fair between callers by the compute time that they use.

Within a priority it is start-time fair queueing (Goyal, Vin and Cheng, 1996): each caller has a clock of the seconds that it
used, and the caller whose clock is furthest behind is next. A caller that comes back starts at the present, so that idling
saves nothing up. With one caller it is a plain line.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush, heapreplace

from foretell.errors import ForetellError
from foretell.passage import Passage
from foretell.request import NORMAL, SHADOW
from foretell.tensors import Arrays

FEW = 32  # entries that were taken back stay in a line until they are more than these, and than half of it
MOST_IDLE = 256  # callers with nothing in the queue whose clocks are kept while others wait
FAR = float("inf")
FIRST_ROW_S = 1e-6  # seconds of a row before any was measured


class Entry(ABC):
    """One caller's rows in the queue. ``answer`` or ``fail`` is called once, on the loop's thread, if still wanted.

    ``due`` is when it must have left the queue, at the latest its ``deadline``. ``apart`` is None or what the model's
    own parameters are, or an object of its own: only entries that are equal in it share a call.
    """

    __slots__ = (
        "apart",
        "caller",
        "count",
        "deadline",
        "due",
        "line",
        "passage",
        "priority",
        "rows",
        "size",
        "waits",
        "wanted",
    )

    rows: Arrays
    count: int
    size: int
    deadline: float
    due: float
    passage: Passage
    caller: str
    priority: int
    apart: object
    line: "Line"
    waits: bool
    wanted: bool

    def load(
        self, rows: Arrays, count: int, deadline: float, passage: Passage, caller: str = "", priority: int = NORMAL
    ) -> None:
        """Take the features that are to be computed: ``count`` rows, due at ``deadline`` (monotonic seconds)."""
        self.rows = rows
        self.count = passage.rows = count
        size = 0
        for array in rows.values():
            size += array.nbytes
        self.size = size
        self.deadline = self.due = deadline
        self.passage = passage
        self.caller = caller
        self.priority = priority
        self.apart = None
        self.waits = False
        self.wanted = True

    @abstractmethod
    def answer(self, outputs: Arrays) -> None: ...

    @abstractmethod
    def fail(self, error: ForetellError) -> None: ...


class Line:
    """What one caller has in the queue at one priority. ``used_s`` is its clock."""

    __slots__ = ("caller", "entries", "gone", "is_ready", "rows", "used_s")

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.entries: deque[Entry] = deque()
        self.rows = 0
        self.gone = 0  # entries that were taken back and are still in ``entries``
        self.used_s = 0.0
        self.is_ready = False

    def compact(self) -> None:
        """Let go of the entries that were taken back, once they are many."""
        if self.gone > FEW and self.gone * 2 > len(self.entries):
            self.entries = deque(entry for entry in self.entries if entry.waits)
            self.gone = 0


class Level:
    """The lines of one priority, which have ``rows`` in all.

    ``ready`` is a heap of those with entries, by the clocks that they had when put there.
    """

    __slots__ = ("heaviest", "lines", "now_s", "ready", "rows", "turns")

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.ready: list[tuple[float, int, Line]] = []
        self.rows = 0
        self.now_s = 0.0
        self.turns = 0
        self.heaviest = Line("")  # the line with the most rows, or one that had them a while ago

    def open(self, caller: str) -> Line:
        """A line for a caller that has none; when many idle, those are forgotten that the present has overtaken, then all."""
        if len(self.lines) > len(self.ready) + MOST_IDLE:
            ahead = {name: line for name, line in self.lines.items() if line.is_ready or line.used_s > self.now_s}
            few = len(ahead) <= len(self.ready) + MOST_IDLE
            self.lines = ahead if few else {name: line for name, line in ahead.items() if line.is_ready}
        line = self.lines[caller] = Line(caller)
        return line

    def rouse(self, line: Line) -> None:
        """Let a line take part, from the present on."""
        line.is_ready = True
        if len(self.lines) == 1:
            self.ready.append((line.used_s, 0, line))
            return
        line.used_s = max(line.used_s, self.now_s)
        self.turns += 1
        heappush(self.ready, (line.used_s, self.turns, line))

    def rest(self) -> None:
        """Nobody waits any more: all callers are equal again."""
        for _, _, line in self.ready:
            line.is_ready = False
        self.ready.clear()
        if len(self.lines) > 1:
            self.lines.clear()

    def next(self) -> Line | None:
        """The line that is next, with an entry at its head that is still wanted; None when there is none."""
        ready = self.ready
        while ready:
            tag, turn, line = ready[0]
            entries = line.entries
            while entries and not entries[0].waits:
                entries.popleft()
                line.gone -= 1
            if not entries:
                heappop(ready)
                line.is_ready = False
            elif line.used_s > tag:
                heapreplace(ready, (line.used_s, turn, line))
            else:
                return line
        self.rest()
        return None


class Queue:
    """What waits, counted exactly in ``rows`` and in ``size`` (bytes).

    ``row_s`` is what a row costs for now; ``charge`` corrects it by what a call has really taken.
    """

    def __init__(self, most_rows: int, most_bytes: int) -> None:
        self.most_rows = most_rows
        self.most_bytes = most_bytes
        self.rows = 0
        self.size = 0
        self.soonest = FAR  # nothing that waits is due before this
        self.has_apart = False  # whether anything came that does not share a call with all
        self.is_contended = False  # whether more than one caller waited when ``take`` was last asked
        self.row_s = FIRST_ROW_S
        self.levels = [Level() for _ in range(SHADOW + 1)]

    def __iter__(self) -> Iterator[Entry]:
        """All that wait."""
        return (entry for level in self.levels for _, _, line in level.ready for entry in line.entries if entry.waits)

    def put(self, entry: Entry) -> None:
        """Let an entry wait. Whether there is room is the caller's to see: one larger than the whole may wait alone."""
        level = self.levels[entry.priority]
        line = level.lines.get(entry.caller) or level.open(entry.caller)
        if not line.is_ready:
            level.rouse(line)
        line.entries.append(entry)
        count = entry.count
        line.rows += count
        level.rows += count
        if line.rows > level.heaviest.rows:
            level.heaviest = line
        self.soonest = min(self.soonest, entry.due)
        if entry.apart is not None:
            self.has_apart = True
        entry.line = line
        entry.waits = True
        self.rows += count
        self.size += entry.size

    def discard(self, entry: Entry) -> None:
        """Take an entry back that waits, and free its rows."""
        self._leave(entry)
        entry.rows = {}
        entry.line.gone += 1
        entry.line.compact()

    def take(self, now: float, most_rows: int, late: list[Entry], *, one_shape: bool) -> list[Entry]:
        """The next entries that can share a call of at most ``most_rows``; what is due already goes to ``late``.

        They are of one priority, of the same shapes and the same parameters for the model. The first may have more rows.
        """
        for level in self.levels:
            if level.ready:
                line = level.ready[0][2]
                if line.rows == self.rows <= most_rows and one_shape and now < self.soonest and not self.has_apart:
                    return self._take_all(level, line)
                if batch := self._fill(level, now, most_rows, late, one_shape):
                    return batch
        return []

    def _take_all(self, level: Level, line: Line) -> list[Entry]:
        """All of the one line that has entries: nothing stands between them, and nobody is kept waiting."""
        if line.gone:
            batch = [entry for entry in line.entries if entry.waits]
            line.gone = 0
        else:
            batch = list(line.entries)
        for entry in batch:
            entry.waits = False
        line.entries.clear()
        line.rows = level.rows = self.rows = self.size = 0
        self.soonest = FAR
        line.is_ready = False
        if len(level.ready) + len(level.lines) > 2:
            level.rest()
        else:
            level.ready.clear()
        return batch

    def _fill(self, level: Level, now: float, most_rows: int, late: list[Entry], one_shape: bool) -> list[Entry]:
        batch: list[Entry] = []
        rows, apart = 0, None
        while rows < most_rows and (line := level.next()) is not None:
            entries = line.entries
            is_alone = len(level.lines) == 1
            while entries:
                entry = entries[0]
                if not entry.waits:
                    line.gone -= 1
                elif entry.due <= now:
                    self._leave(entry)
                    late.append(entry)
                else:
                    if not batch:
                        apart = entry.apart
                    elif (
                        rows + entry.count > most_rows
                        or entry.apart != apart
                        or not (one_shape or _same_shapes(batch[0], entry))
                    ):
                        return batch
                    entry.waits = False
                    batch.append(entry)
                    rows += (count := entry.count)
                    line.rows -= count
                    level.rows -= count
                    self.rows -= count
                    self.size -= entry.size
                    if not is_alone:
                        self.is_contended = True
                        level.now_s = max(level.now_s, line.used_s)
                        line.used_s += count * self.row_s
                entries.popleft()
                if not is_alone:
                    break
        return batch

    def charge(self, batch: Sequence[Entry], rows: int, seconds: float) -> None:
        """Correct the clocks of a batch's callers, now that it is known what its ``rows`` have cost."""
        row_s = seconds / rows
        for entry in batch:
            entry.line.used_s += entry.count * (row_s - self.row_s)
        self.row_s = row_s
        self.is_contended = False

    def expire(self, now: float) -> list[Entry]:
        """Take out what is due."""
        late = [entry for entry in self if entry.due <= now]
        for entry in late:
            self.discard(entry)
        self.soonest = min((entry.due for entry in self), default=FAR)
        return late

    def ahead(self, entry: Entry) -> int:
        """Rows that may be computed before an entry that came now: by priority, and of each other caller its fair part."""
        rows = self.rows
        for level in self.levels[entry.priority + 1 :]:
            rows -= level.rows
        level = self.levels[entry.priority]
        own = level.lines.get(entry.caller)
        is_new = own is None or not own.is_ready
        fair = ((own.rows if own else 0) + entry.count) * (len(level.ready) + is_new) - entry.count
        return rows - max(0, level.rows - fair)

    def make_room(self, entry: Entry) -> list[Entry]:
        """Take back, for a newcomer, the newest of lower priorities, then those of the caller that holds more than it would.

        Gives those that were taken back, to be refused; none when there would not be room enough: refuse the newcomer then.
        """
        chosen: list[Entry] = []
        rows, size = self.rows + entry.count - self.most_rows, self.size + entry.size - self.most_bytes
        for victim in self._victims(entry):
            chosen.append(victim)
            rows -= victim.count
            size -= victim.size
            if rows <= 0 and size <= 0:
                for each in chosen:
                    self.discard(each)
                return chosen
        return []

    def _victims(self, entry: Entry) -> Iterator[Entry]:
        for level in reversed(self.levels[entry.priority + 1 :]):
            for _, _, line in level.ready:
                yield from (each for each in reversed(line.entries) if each.waits)
        level = self.levels[entry.priority]
        own, heavy = level.lines.get(entry.caller), level.heaviest
        if heavy is own:
            return
        most, left = entry.count + (own.rows if own else 0), heavy.rows
        for each in reversed(heavy.entries):
            if each.waits:
                left -= each.count
                if left < most:
                    return
                yield each

    def _leave(self, entry: Entry) -> None:
        entry.waits = False
        entry.line.rows -= entry.count
        self.levels[entry.priority].rows -= entry.count
        self.rows -= entry.count
        self.size -= entry.size


def _same_shapes(first: Entry, second: Entry) -> bool:
    """Whether two entries' rows have the same shapes."""
    return all(array.shape[1:] == second.rows[name].shape[1:] for name, array in first.rows.items())
