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
