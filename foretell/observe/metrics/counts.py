"""Counting, on the way of every request: the numbers of one version of one model, in the region of this process.

A model has one vector (``("model", name, version)``), one for each size of batch, one for each code of a failure. What finds no
room in a full region is counted all the same, in places of the model's own vector that are kept for it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from foretell.errors import ForetellError, Kind
from foretell.passage import Passage
from foretell.region import Region, Vector

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)
QUICK_S = SECONDS[0]
EXACT_ROWS = 256
LONGEST_CODE = 64
MOST_CODES = 100
FATES = ("accepted", "rejected", "expired", "cancelled")
"""What becomes of a request: it is answered, or failed by the model; refused before that; late; or nobody waits any more."""
_FATE = {Kind.BROKEN: "accepted", Kind.LATE: "expired", Kind.CANCELLED: "cancelled"}

# places in a batch's vector: requests, their rows, forwards, the rows of those, and the seconds of the requests' four phases
REQUESTS, REQUEST_ROWS, FORWARDS, FORWARD_ROWS, PHASES = range(5)
BATCH_SIZE = PHASES + 4

# places in a model's vector: three histograms, then sums
BUCKETS = len(SECONDS) + 1
TOTAL, QUEUE, COMPUTE = 0, BUCKETS, 2 * BUCKETS
LAST = 3 * BUCKETS  # when the last forward started, monotonic seconds: the largest of all workers counts, not the sum
FAILED = LAST + 1  # the four phases of requests that failed
HITS = FAILED + 4  # answers that were not computed, and then their four phases
MISSES = HITS + 5
OTHER_OUTCOMES = MISSES + 1  # one for each fate
OTHER_BATCHES = OTHER_OUTCOMES + len(FATES)
MODEL_SIZE = OTHER_BATCHES + BATCH_SIZE

OVERFLOW = ("", "")
"""The model that requests are counted for when there is no room for a vector of their own."""


class Counts:
    """Counts passages; ``numbers`` is the model's vector, of ``MODEL_SIZE``."""

    __slots__ = ("batches", "last_started", "model", "numbers", "outcomes", "region", "version")

    def __init__(self, region: Region, numbers: Vector, model: str, version: str) -> None:
        self.region = region
        self.numbers = numbers
        self.model = model
        self.version = version
        self.last_started = 0.0
        self.batches: dict[int, Vector] = {}
        self.outcomes: dict[str, Vector] = {}

    def add(self, passage: Passage) -> None:
        cached = passage.cached
        if passage.error is not None or cached:
            self._add_not_computed(passage)
            return
        numbers = self.numbers
        received, queued, started = passage.received, passage.queued, passage.started
        computed, ended = passage.computed, passage.ended
        if received <= queued <= started <= computed <= ended:
            before_s, queue_s, infer_s, after_s = queued - received, started - queued, computed - started, ended - computed
        else:
            before_s, queue_s, infer_s, after_s = passage.phases()
        if cached is not None:
            numbers[MISSES] += 1.0
        numbers[bisect_left(SECONDS, ended - received)] += 1.0
        numbers[QUEUE if queue_s <= QUICK_S else QUEUE + bisect_left(SECONDS, queue_s)] += 1.0
        numbers[COMPUTE + bisect_left(SECONDS, infer_s)] += 1.0
        rows = passage.batch_rows
        batch = self.batches.get(rows)
        if batch is None:
            batch = self._open_batch(rows)
        batch[0] += 1.0
        batch[1] += passage.rows
        if started != self.last_started:  # the passages of one forward share its start
            self.last_started = numbers[LAST] = started
            batch[2] += 1.0
            batch[3] += rows
        batch[4] += before_s
        batch[5] += queue_s
        batch[6] += infer_s
        batch[7] += after_s

    def add_all(self, passages: Sequence[Passage]) -> None:
        """``add`` of passages that one call answered and that ended together: a number is written once for all as usual."""
        first = passages[0]
        started, computed, ended = first.started, first.computed, first.ended
        usual: list[Passage] = []
        others: list[Passage] = []
        for each in passages:
            in_order = each.received <= each.queued <= each.started == started <= computed <= ended
            is_usual = in_order and each.cached is None and each.error is None
            (usual if is_usual else others).append(each)
        for each in others:
            self.add(each)
        if usual:
            self._add_usual(usual, started, computed, ended)

    def _add_usual(self, passages: Sequence[Passage], started: float, computed: float, ended: float) -> None:
        """Those of one forward, none of them from a cache."""
        numbers, count, rows = self.numbers, len(passages), passages[0].batch_rows
        waits = [started - passage.queued for passage in passages]
        _count(numbers, TOTAL, [ended - passage.received for passage in passages])
        _count(numbers, QUEUE, waits)
        numbers[COMPUTE + bisect_left(SECONDS, computed - started)] += count
        batch = self.batches.get(rows)
        if batch is None:
            batch = self._open_batch(rows)
        batch[REQUESTS] += count
        batch[REQUEST_ROWS] += sum([passage.rows for passage in passages])
        if started != self.last_started:
            self.last_started = numbers[LAST] = started
            batch[FORWARDS] += 1.0
            batch[FORWARD_ROWS] += rows
        before_s = sum([passage.queued - passage.received for passage in passages])
        _add(batch, PHASES, (before_s, sum(waits), (computed - started) * count, (ended - computed) * count))

    def _add_not_computed(self, passage: Passage) -> None:
        """A request that failed, or whose answer was there already."""
        numbers, phases = self.numbers, passage.phases()
        numbers[bisect_left(SECONDS, passage.total_s)] += 1.0
        if phases[1]:
            numbers[QUEUE + bisect_left(SECONDS, phases[1])] += 1.0
        if phases[2]:
            numbers[COMPUTE + bisect_left(SECONDS, phases[2])] += 1.0
        if passage.error is None:
            numbers[HITS] += 1.0
            _add(numbers, HITS + 1, phases)
        else:
            code = passage.error.code
            outcome = self.outcomes.get(code)
            if outcome is None:
                outcome = self._open_outcome(passage.error)
            outcome[0] += 1.0
            _add(numbers, FAILED, phases)

    def _open_batch(self, rows: int) -> Vector:
        """The vector of a size of batch; large ones share that of the next power of two, so that there are never many."""
        shown = rows if rows <= EXACT_ROWS else 1 << (rows - 1).bit_length()
        vector = self.region.vector(("batch", self.model, self.version, str(shown)), BATCH_SIZE)
        if vector is None:
            vector = self.numbers[OTHER_BATCHES : OTHER_BATCHES + BATCH_SIZE]
        self.batches[rows] = vector
        return vector

    def _open_outcome(self, error: ForetellError) -> Vector:
        """The vector of a code; of very many, as when somebody's pipeline makes them up, the last are counted together."""
        fate = _FATE.get(error.kind, "rejected")
        name = ("outcome", self.model, self.version, fate, error.code[:LONGEST_CODE])
        vector = self.region.vector(name, 1) if len(self.outcomes) < MOST_CODES else None
        if vector is None:
            place = OTHER_OUTCOMES + FATES.index(fate)
            return self.numbers[place : place + 1]
        self.outcomes[error.code] = vector
        return vector


class Tally:
    """Numbers of one name, by the values of its labels, which are kept and told like all others.

    Where the first labels are ``model`` and ``version``, they are told while that is served. What finds no room is lost,
    and that is counted.
    """

    kind: str

    def __init__(self, region: Region, name: str, text: str, labels: Sequence[str]) -> None:
        self.region = region
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self._numbers: dict[tuple[str, ...], Vector] = {}

    def _find(self, values: tuple[str, ...]) -> Vector | None:
        number = self._numbers.get(values)
        if number is None:
            number = self.region.vector((self.kind, self.name, *values), 1)
            if number is not None:
                self._numbers[values] = number
        return number


class Counter(Tally):
    """Sums up: ``add(("digits", "1"), 3.0)``. The sums of all workers are added."""

    kind = "counter"

    def add(self, values: tuple[str, ...], amount: float = 1.0) -> None:
        """Add an amount, which must not be negative, for these values of the labels."""
        number = self._find(values)
        if number is not None:
            number[0] += amount


class Largest(Tally):
    """Keeps the largest that was seen, by any worker."""

    kind = "largest"

    def see(self, values: tuple[str, ...], amount: float) -> None:
        """Keep an amount, which must not be negative, if it is the largest for these values of the labels."""
        number = self._find(values)
        if number is not None and amount > number[0]:
            number[0] = amount


def _count(numbers: Vector, start: int, seconds: list[float]) -> None:
    """Count in the histogram that begins at ``start``; ``seconds`` are sorted by it."""
    seconds.sort()
    place, last = bisect_left(SECONDS, seconds[0]), bisect_left(SECONDS, seconds[-1])
    counted = 0
    while place < last:
        within = bisect_right(seconds, SECONDS[place])
        numbers[start + place] += within - counted
        counted = within
        place += 1
    numbers[start + last] += len(seconds) - counted


def _add(numbers: Vector, start: int, phases: tuple[float, float, float, float]) -> None:
    for place, seconds in enumerate(phases, start):
        numbers[place] += seconds
