"""The numbers of real processes that share memory, some of which are killed while they count."""

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from foretell.board import Board, SlotState
from foretell.observe.metrics import Gauge, Metrics
from foretell.passage import Passage

WORKER = """
import sys
from foretell.board import Board
from foretell.errors import Busy
from foretell.observe.metrics import Metrics
from foretell.passage import Passage

board, number, most = Board(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
metrics = Metrics(lambda: (), [slot.counters for slot in board.slots], number, board)
for count in range(most):
    error = Busy("queue_full", "x") if count % 10 == 9 else None
    metrics(Passage("m", "1", "http", 1.0, None, 2, 2, 1.25, 1.5 + count, 1.75 + count, 2.0 + count, error))
    sys.stdout.write("answered\\n")
    sys.stdout.flush()
"""


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(2)
    yield board
    os.close(board.fd)


def start(board: Board, number: int, requests: int) -> "subprocess.Popen[str]":
    line = [sys.executable, "-c", WORKER, str(board.fd), str(number), str(requests)]
    process = subprocess.Popen(line, pass_fds=(board.fd,), stdout=subprocess.PIPE, text=True)
    board.slots[number].take(process.pid)
    return process


def totals(metrics: Metrics) -> dict[str, float]:
    """Every number of a scrape that may only grow."""
    found = re.findall(
        r'^(\w+(?:_total|(?:seconds|rows)_count|_sum|_bucket|_us)\{.*model="m".*\}) (\S+)$',
        metrics.text().decode(),
        re.MULTILINE,
    )
    return {series: float(number) for series, number in found}


def shrunk(before: dict[str, float], now: dict[str, float]) -> list[str]:
    return [series for series, number in before.items() if now.get(series, 0.0) < number]


def ended(metrics: Metrics) -> float:
    found = totals(metrics)
    return sum(number for series, number in found.items() if series.startswith("foretell_requests_total"))


def test_no_sum_shrinks_in_its_last_digit_when_a_worker_sees_a_new_size() -> None:
    regions = [memoryview(bytearray(2**15)) for _ in range(2)]
    workers = [Metrics(None, regions, number) for number in range(2)]
    chance = random.Random(11)
    before: dict[str, float] = {}
    for turn in range(200):
        rows, queue_s = chance.randrange(1, 60), chance.random() if turn < 100 else 0.0
        worker = workers[1 - turn // 100]  # each sees its sizes in an order of its own, the first of the regions last
        worker(Passage("m", "1", "http", 1.0, None, rows, rows, 2.0, 2.0 + queue_s, 4.0, 5.0))
        now = totals(workers[0])
        assert not shrunk(before, now)
        before = now


def test_counters_only_grow_over_fifty_scrapes_and_end_at_what_was_answered(board: Board) -> None:
    reader = Metrics(lambda: [Gauge("m", "1")], [memoryview(bytearray(2**16)), *(slot.counters for slot in board.slots)], 0)
    workers = [start(board, 0, 20_000), start(board, 1, 20_000)]
    before: dict[str, float] = {}
    for _ in range(50):
        now = totals(reader)
        assert not shrunk(before, now)
        before = now
    answered = sum(worker.communicate()[0].count("\n") for worker in workers)
    assert answered == ended(reader) == 40_000


def test_a_killed_worker_loses_no_answer_that_it_gave(board: Board) -> None:
    reader = Metrics(lambda: [Gauge("m", "1")], [memoryview(bytearray(2**16)), *(slot.counters for slot in board.slots)], 0)
    chance = random.Random(7)
    answered, kills = 0, 0
    before: dict[str, float] = {}
    for _ in range(4):
        worker = start(board, 1, 10**9)
        assert worker.stdout is not None
        for _ in range(chance.randrange(1, 3000)):
            answered += len(worker.stdout.readline()) > 0
        worker.send_signal(signal.SIGKILL)
        answered += worker.communicate()[0].count("answered\n")
        board.slots[1].leave(SlotState.GONE)
        kills += 1
        now = totals(reader)
        assert not shrunk(before, now)
        assert answered <= ended(reader) <= answered + kills, "one request may be counted whose answer was not written"
        before = now
    survivor = start(board, 1, 100)
    survivor.communicate()
    assert answered + 100 <= ended(reader) <= answered + 100 + kills
