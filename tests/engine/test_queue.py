"""The line before a model: fair between callers by the time they use, and cheap to leave."""

import time

import pytest

from foretell.engine.queue import Entry, Queue
from foretell.request import NORMAL
from foretell.testing import FakeClock
from tests.engine.batching import Tagged, entry_of, passage, rows_of

pytestmark = pytest.mark.clocked

CLOCK = FakeClock()


def filled(**rows: int) -> Queue:
    """A queue in which each caller has so many rows, one by one."""
    queue = Queue(10**6, 10**9)
    for caller, count in rows.items():
        for _ in range(count):
            queue.put(entry_of(1, CLOCK, caller=caller))
    return queue


def served(queue: Queue, most_rows: int, seconds: dict[str, float], calls: int) -> dict[str, float]:
    """The seconds that each caller used in so many calls, of which a row of each caller costs so much."""
    used = dict.fromkeys(seconds, 0.0)
    for _ in range(calls):
        batch = queue.take(0.0, most_rows, [], one_shape=True)
        costs = [seconds[entry.caller] for entry in batch]
        for entry in batch:
            used[entry.caller] += seconds[entry.caller]
        queue.charge(batch, len(batch), sum(costs))
    return used


def test_callers_take_turns_whoever_asked_for_more() -> None:
    used = served(filled(heavy=1000, light=100), 10, {"heavy": 0.01, "light": 0.01}, 10)
    assert abs(used["heavy"] - used["light"]) <= 0.1


def test_a_caller_whose_rows_cost_more_gets_fewer_of_them() -> None:
    used = served(filled(dear=400, cheap=4000), 1, {"dear": 0.04, "cheap": 0.01}, 500)
    assert 0.8 < used["dear"] / used["cheap"] < 1.25


def test_whoever_comes_back_has_saved_nothing_up() -> None:
    queue = filled(busy=1000, idle=1)
    served(queue, 1, {"busy": 1.0, "idle": 1.0}, 500)
    for _ in range(100):
        queue.put(entry_of(1, CLOCK, caller="idle"))
    used = served(queue, 1, {"busy": 1.0, "idle": 1.0}, 100)
    assert abs(used["busy"] - used["idle"]) <= 3


def test_whoever_leaves_and_comes_back_is_not_forgiven_what_was_used() -> None:
    queue = filled(a=100, b=100)
    line = queue.levels[NORMAL].lines["a"]
    served(queue, 1, {"a": 1.0, "b": 1.0}, 100)
    used_s = line.used_s
    for entry in [entry for entry in queue if entry.caller == "a"]:
        queue.discard(entry)
    queue.take(0.0, 1, [], one_shape=True)
    queue.put(entry_of(1, CLOCK, caller="a"))
    assert queue.levels[NORMAL].lines["a"].used_s >= used_s


def test_callers_that_went_are_forgotten_while_others_wait() -> None:
    queue = filled(always=3000)
    for number in range(2000):
        queue.put(entry_of(1, CLOCK, caller=f"once {number}"))
        for _ in range(2):
            queue.take(0.0, 1, [], one_shape=True)
    assert len(queue.levels[NORMAL].lines) < 600


def test_what_is_taken_back_is_uncounted_at_once_and_let_go_of_soon() -> None:
    queue = Queue(10**6, 10**9)
    entries: list[Entry] = [entry_of(value, CLOCK) for value in range(4096)]
    for entry in entries:
        queue.put(entry)
    start = time.perf_counter()
    for entry in reversed(entries[1:]):
        queue.discard(entry)
    assert time.perf_counter() - start < 0.5  # by searching the line it took seconds
    assert (queue.rows, queue.size) == (1, entries[0].size)
    assert len(queue.levels[NORMAL].lines[""].entries) < 100
    assert queue.take(0.0, 64, [], one_shape=True) == [entries[0]]


def test_a_request_larger_than_the_queue_may_wait_in_it_alone() -> None:
    queue = Queue(4, 10**9)
    large = Tagged()
    large.load(rows_of(*range(9)), 9, 1e9, passage())
    queue.put(large)
    assert queue.make_room(entry_of(1, CLOCK)) == []
    assert queue.take(0.0, 4, [], one_shape=True) == [large]


def test_the_rows_ahead_of_a_newcomer_are_its_fair_part_of_what_waits() -> None:
    queue = filled(heavy=1000)
    assert queue.ahead(entry_of(1, CLOCK, caller="heavy")) == 1000
    assert queue.ahead(entry_of(1, CLOCK, caller="light")) <= 2


def test_callers_that_only_were_here_make_nobody_wait_for_more() -> None:
    queue = filled(heavy=1000)
    for number in range(200):
        queue.put(entry_of(1, CLOCK, caller=f"once {number}"))
    while len(queue.levels[NORMAL].ready) > 1:
        queue.take(0.0, 1, [], one_shape=True)
    assert len(queue.levels[NORMAL].lines) > 200
    assert queue.ahead(entry_of(1, CLOCK, caller="light")) <= 2


def test_how_many_rows_are_ahead_costs_the_same_with_many_callers() -> None:
    entry, seconds = entry_of(1, CLOCK, caller="light"), []
    for callers in (1, 20000):
        queue = filled(**{f"c{number}": 1 for number in range(callers)})
        start = time.perf_counter()
        for _ in range(200):
            queue.ahead(entry)
        seconds.append(time.perf_counter() - start)
    assert seconds[1] < seconds[0] * 50 + 0.01  # by adding them up it took thousands of times as long


def test_each_priority_counts_its_rows() -> None:
    queue = Queue(10**6, 10**9)
    entries = [entry_of(1, CLOCK, caller=f"c{number % 7}", priority=NORMAL + number % 3) for number in range(60)]
    for entry in entries:
        queue.put(entry)
    for entry in entries[::4]:
        queue.discard(entry)
    while queue.rows:
        for level in queue.levels:
            assert level.rows == sum(line.rows for line in level.lines.values())
        queue.take(0.0, 5, [], one_shape=True)
    assert [level.rows for level in queue.levels] == [0] * len(queue.levels)
