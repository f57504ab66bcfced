"""When a worker that crashes is started again."""

import pytest

from foretell.workers.crashes import VMSTAT, Crashes, oom_kills


def test_each_crash_doubles_the_wait_up_to_ten_seconds() -> None:
    crashes = Crashes(most=100)
    assert [crashes.add(0.0) for _ in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_after_the_most_crashes_within_a_minute_it_is_given_up() -> None:
    crashes = Crashes(most=3)
    assert [crashes.add(now) for now in (0.0, 30.0, 59.0)] == [0.1, 0.2, None]


def test_crashes_of_more_than_a_minute_ago_are_forgiven() -> None:
    crashes = Crashes(most=3)
    assert [crashes.add(now) for now in (0.0, 30.0, 61.0, 200.0)] == [0.1, 0.2, 0.2, 0.1]


@pytest.mark.skipif(not VMSTAT.exists(), reason="no Linux")
def test_the_kernel_tells_of_those_that_it_killed_for_want_of_memory() -> None:
    assert isinstance(oom_kills(), int)
