"""The window: side by side, in order, never far ahead."""

import threading
from collections.abc import Iterator

import pytest

from foretell.modes.files.window import in_order


def test_results_come_in_order_however_the_work_ends() -> None:
    last_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert last_done.wait(10)
        else:
            last_done.set()
        return item

    assert list(in_order(work, range(4), 2)) == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_reader_is_never_more_than_a_window_ahead_of_the_writer(workers: int) -> None:
    taken = written = most = 0

    def items() -> Iterator[int]:
        nonlocal taken, most
        for item in range(100):
            taken += 1
            most = max(most, taken - written)
            yield item

    for _ in in_order(lambda item: item, items(), workers):
        written += 1
    assert written == 100
    assert most <= workers + 2 + 1  # the window, and the one in the writer's hands


def test_what_the_work_raises_reaches_the_writer_and_stops_the_reader() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 // (3 - item), items(), 2))
    assert len(taken) < 20
