"""When a worker that crashes is started again, and which request is suspected."""

from foretell.workers.crashes import MOST_SUSPECTS, Crashes, Suspicion


def test_each_crash_doubles_the_wait_up_to_ten_seconds() -> None:
    crashes = Crashes(most=100)
    assert [crashes.add(0.0) for _ in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_after_the_most_crashes_within_a_minute_it_is_given_up() -> None:
    crashes = Crashes(most=3)
    assert [crashes.add(now) for now in (0.0, 30.0, 59.0)] == [0.1, 0.2, None]


def test_crashes_of_more_than_a_minute_ago_are_forgiven() -> None:
    crashes = Crashes(most=3)
    assert [crashes.add(now) for now in (0.0, 30.0, 61.0, 200.0)] == [0.1, 0.2, 0.2, 0.1]


def test_what_was_in_flight_at_two_crashes_is_guilty() -> None:
    suspicion = Suspicion()
    assert suspicion.add([1, 2, 2]) == []
    assert suspicion.add([3]) == []
    assert suspicion.add([2, 4]) == [2]


def test_of_too_many_suspects_the_oldest_are_forgotten() -> None:
    suspicion = Suspicion()
    suspicion.add([1])
    suspicion.add(range(10, 10 + MOST_SUSPECTS))
    assert suspicion.add([1]) == []
