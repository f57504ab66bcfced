"""How long a call is taken to last: an estimate that is wrong once is put right by the next call."""

from foretell.engine.admission import ServiceTime


def test_a_size_that_was_slow_once_is_put_right_by_the_next_smaller_call() -> None:
    service = ServiceTime(64)
    service.learn(1, 0.01)
    service.learn(32, 5.0)  # the first of its size: nothing else is known of it
    assert service.expect(32) == 5.0
    service.learn(1, 0.01)
    assert service.expect(32) < 1.0
    assert service.longest_s < 1.0


def test_a_size_that_is_slow_itself_keeps_its_time_while_smaller_ones_are_not_called() -> None:
    service = ServiceTime(64)
    service.learn(1, 0.001)
    for _ in range(20):
        service.learn(64, 1.0)
    assert service.expect(64) == 1.0


def test_what_batches_save_is_not_forgotten_when_one_row_is_computed() -> None:
    service = ServiceTime(64)
    service.learn(64, 0.02)
    service.learn(1, 0.01)
    assert service.expect(64) == 0.02


def test_a_call_takes_half_of_the_rows_where_that_costs_no_more_a_row() -> None:
    service = ServiceTime(32)
    service.learn(1, 0.002)
    assert service.worth(32) == 32
    service.learn(32, 0.064)
    assert service.worth(32) == 16  # tried once
    service.learn(16, 0.032)
    assert service.worth(32) == 8
    service.learn(8, 0.016)
    assert service.worth(32) == 8  # half of it would be too short a call
    assert service.worth(31) == 8


def test_a_call_takes_all_rows_where_they_are_cheaper_together() -> None:
    service = ServiceTime(32)
    service.learn(32, 0.064)
    service.learn(16, 0.060)
    assert service.worth(32) == 32
    assert service.worth(20) == 20


def test_short_calls_take_what_there_is() -> None:
    service = ServiceTime(32)
    service.learn(32, 0.0064)
    service.learn(16, 0.0032)
    assert service.worth(32) == 32


def test_a_larger_call_is_tried_again_now_and_then() -> None:
    service = ServiceTime(32)
    service.learn(32, 0.064)
    service.learn(16, 0.032)
    service.learn(8, 0.030)
    taken = [service.worth(32) for _ in range(200)]
    assert taken.count(16) > 190
    assert 32 in taken
