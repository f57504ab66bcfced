"""The queue before one model: who shares a call with whom, and who is told what."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.engine.batcher import Batcher
from foretell.errors import Broken, Busy, Late, Unavailable
from foretell.tensors import Arrays, Signature
from foretell.testing import SMALL, FakeBackend, FakeClock, HeldPlace
from tests.engine.batching import ANY_LENGTH, FAR, Tagged, batcher_of, passage, rows_of


async def first_values(batcher: Batcher, values: list[float]) -> list[float]:
    """One request of one row for each value, all in the same tick."""
    answers = await asyncio.gather(*(batcher.submit(rows_of(value), FAR, passage()) for value in values))
    return [float(answer["y"][0, 0]) for answer in answers]


def test_what_comes_in_one_tick_shares_one_call() -> None:
    clock, backend = FakeClock(), FakeBackend()
    assert clock.run(first_values(batcher_of(backend, clock), [1.0, 2.0, 3.0])) == [3.0, 5.0, 7.0]
    assert backend.batches == [3]


def test_a_lone_request_runs_at_once_without_waiting_for_others() -> None:
    clock, backend = FakeClock(), FakeBackend()
    clock.run(first_values(batcher_of(backend, clock), [1.0]))
    assert clock.now == 1000.0


def test_what_comes_while_the_model_is_busy_forms_the_next_batch() -> None:
    clock, backend, place = FakeClock(), FakeBackend(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(backend, clock, place)
        first = asyncio.ensure_future(batcher.submit(rows_of(1), FAR, passage()))
        await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(batcher.submit(rows_of(value), FAR, passage())) for value in (2, 3)]
        await asyncio.sleep(0.001)
        place.release()
        await first
        await asyncio.sleep(0.001)
        place.release()
        await asyncio.gather(*others)

    clock.run(main())
    assert backend.batches == [1, 2]


def test_max_wait_holds_a_batch_open_until_it_is_full_or_the_time_is_up() -> None:
    clock, backend = FakeClock(), FakeBackend()

    async def main() -> None:
        batcher = batcher_of(backend, clock, max_wait_s=0.5, max_batch_rows=2)
        await batcher.submit(rows_of(1), FAR, passage())
        assert clock.now == pytest.approx(1000.5)
        await first_values(batcher, [1.0, 2.0])
        assert clock.now == pytest.approx(1000.5)

    clock.run(main())
    assert backend.batches == [1, 2]


def test_a_batch_holds_at_most_the_limit_counted_in_rows() -> None:
    clock, backend = FakeClock(), FakeBackend()

    async def main() -> None:
        batcher = batcher_of(backend, clock, max_batch_rows=4)
        await asyncio.gather(*(batcher.submit(rows_of(1, 2, 3), FAR, passage()) for _ in range(3)))

    clock.run(main())
    assert backend.batches == [3, 3, 3]


def test_a_request_of_more_rows_than_the_limit_is_computed_in_parts_and_answered_whole() -> None:
    clock, backend = FakeClock(), FakeBackend()
    batcher = batcher_of(backend, clock, max_batch_rows=4)
    answer = clock.run(batcher.submit(rows_of(*range(10)), FAR, passage()))
    assert backend.batches == [4, 4, 2]
    np.testing.assert_array_equal(answer["y"][:, 0], np.arange(10) * 2 + 1)


def test_different_shapes_never_share_a_call() -> None:
    clock, backend = FakeClock(), FakeBackend(signature=ANY_LENGTH)

    async def main() -> list[Arrays]:
        batcher = batcher_of(backend, clock)
        lengths = (2, 2, 3, 2)
        return await asyncio.gather(
            *(batcher.submit({"x": np.full((1, length), length, np.float32)}, FAR, passage()) for length in lengths)
        )

    answers = clock.run(main())
    assert [answer["y"].shape for answer in answers] == [(1, 2), (1, 2), (1, 3), (1, 2)]
    assert backend.batches == [2, 1, 1]


def test_a_model_without_a_row_axis_runs_each_request_alone() -> None:
    whole = Signature(SMALL.inputs, SMALL.outputs, rows=False)
    clock, backend = FakeClock(), FakeBackend(signature=whole)

    async def main() -> None:
        batcher = batcher_of(backend, clock)
        both = [batcher.submit({"x": np.ones(2, np.float32)}, FAR, passage()) for _ in range(2)]
        assert [answer["y"].shape for answer in await asyncio.gather(*both)] == [(2,), (2,)]

    clock.run(main())
    assert backend.batches == [1, 1]


def test_when_a_shared_call_raises_only_the_culprit_gets_the_error() -> None:
    def refuse_13(inputs: Arrays) -> Arrays:
        if (inputs["x"] == 13).any():
            raise ValueError("unlucky")
        return {"y": inputs["x"]}

    clock, backend = FakeClock(), FakeBackend(refuse_13)

    async def main() -> list[Arrays | BaseException]:
        batcher = batcher_of(backend, clock)
        three = (batcher.submit(rows_of(value), FAR, passage()) for value in (1, 13, 2))
        return await asyncio.gather(*three, return_exceptions=True)

    one, unlucky, two = clock.run(main())
    assert isinstance(one, dict)
    assert isinstance(two, dict)
    assert isinstance(unlucky, Broken)
    assert unlucky.code == "model_failed"
    assert "unlucky" not in unlucky.message


def test_an_output_with_the_wrong_number_of_rows_is_refused_with_both_numbers() -> None:
    clock, backend = FakeClock(), FakeBackend(lambda inputs: {"y": inputs["x"][:1]})

    async def main() -> list[Arrays | BaseException]:
        batcher = batcher_of(backend, clock)
        both = (batcher.submit(rows_of(value), FAR, passage()) for value in (1, 2))
        return await asyncio.gather(*both, return_exceptions=True)

    for outcome in clock.run(main()):
        assert isinstance(outcome, Broken)
        assert outcome.code == "wrong_output"
        assert "given 2 rows" in outcome.message
        assert "has 1 rows" in outcome.message


def test_a_full_queue_refuses_by_rows() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place, queue_rows=4)
        running = asyncio.ensure_future(batcher.submit(rows_of(1), FAR, passage()))
        await asyncio.sleep(0.001)
        waiting = [asyncio.ensure_future(batcher.submit(rows_of(1, 2), FAR, passage())) for _ in range(2)]
        await asyncio.sleep(0.001)
        with pytest.raises(Busy) as refused:
            await batcher.submit(rows_of(1), FAR, passage())
        assert refused.value.details["retry_after_s"] == 1
        place.release()
        await asyncio.sleep(0.001)
        place.release()
        await asyncio.gather(running, *waiting)

    clock.run(main())


def test_a_full_queue_refuses_by_bytes() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place, queue_bytes=16)
        running = asyncio.ensure_future(batcher.submit(rows_of(1), FAR, passage()))
        await asyncio.sleep(0.001)
        waiting = asyncio.ensure_future(batcher.submit(rows_of(1, 2), FAR, passage()))
        await asyncio.sleep(0.001)
        with pytest.raises(Busy):
            await batcher.submit(rows_of(1), FAR, passage())
        place.release()
        await asyncio.sleep(0.001)
        place.release()
        await asyncio.gather(running, waiting)

    clock.run(main())


def test_a_deadline_in_the_queue_is_answered_while_the_model_is_busy_and_never_run() -> None:
    clock, backend, place = FakeClock(), FakeBackend(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(backend, clock, place)
        running = asyncio.ensure_future(batcher.submit(rows_of(1), FAR, passage()))
        await asyncio.sleep(0.001)
        with pytest.raises(Late) as late:
            await batcher.submit(rows_of(2), clock() + 1.0, passage())
        assert clock.now == pytest.approx(1001.0, abs=0.05)
        assert late.value.details["phase"] == "total"
        place.release()
        await running
        assert batcher.waiting_rows == 0

    clock.run(main())
    assert backend.batches == [1]


def test_a_deadline_in_the_model_is_answered_without_waiting_for_it() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place)
        with pytest.raises(Late) as late:
            await batcher.submit(rows_of(2), clock() + 1.0, passage())
        assert late.value.details["phase"] == "total"
        place.release()

    clock.run(main())


def test_a_request_that_is_due_already_is_refused_before_the_queue() -> None:
    clock = FakeClock()
    with pytest.raises(Late):
        clock.run(batcher_of(FakeBackend(), clock).submit(rows_of(1), clock() - 1.0, passage()))


def test_a_cancelled_request_that_waits_is_never_run() -> None:
    clock, backend, place = FakeClock(), FakeBackend(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(backend, clock, place)
        running = asyncio.ensure_future(batcher.submit(rows_of(1), FAR, passage()))
        await asyncio.sleep(0.001)
        gone = asyncio.ensure_future(batcher.submit(rows_of(2), FAR, passage()))
        await asyncio.sleep(0.001)
        gone.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting_rows == 0
        place.release()
        await running

    clock.run(main())
    assert backend.batches == [1]


def test_closing_refuses_what_waits_and_what_comes_and_answers_what_runs() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place)
        running = asyncio.ensure_future(batcher.submit(rows_of(1), FAR, passage()))
        await asyncio.sleep(0.001)
        waiting = asyncio.ensure_future(batcher.submit(rows_of(2), FAR, passage()))
        await asyncio.sleep(0.001)
        batcher.close()
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await batcher.submit(rows_of(3), FAR, passage())
        place.release()
        assert (await running)["y"][0, 0] == 3

    clock.run(main())


def test_an_idle_batcher_sets_no_timer() -> None:
    clock = FakeClock()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock)
        await batcher.submit(rows_of(1), clock() + 5, passage())
        await asyncio.sleep(0.1)
        assert batcher._sweeper is None

    clock.run(main())


def test_of_10_000_tagged_requests_none_is_exchanged() -> None:
    """Mixed sizes, shapes, failures, cancellations and deadlines; each is answered once, with its own rows."""
    rng = np.random.default_rng(0)
    clock, place = FakeClock(), HeldPlace()

    def refuse_multiples(inputs: Arrays) -> Arrays:
        if (inputs["x"][:, 0] % 97 == 0).any():
            raise ValueError("refused")
        return {"y": inputs["x"] * 2}

    backend = FakeBackend(refuse_multiples, ANY_LENGTH)
    entries: list[tuple[int, Tagged, str]] = []

    async def main() -> None:
        batcher = batcher_of(backend, clock, place, max_batch_rows=32, queue_rows=10**6)
        for tag in range(10_000):
            entry = Tagged()
            fate = str(rng.choice(["stays", "stays", "stays", "cancelled", "expires"]))
            shape = (int(rng.integers(1, 5)), int(rng.integers(1, 3)))
            rows = {"x": np.full(shape, tag, np.float32)}
            entry.load(rows, shape[0], clock() + (0.05 if fate == "expires" else 1e6), passage())
            try:
                batcher.submit_nowait(entry)
            except Busy as busy:
                entry.fail(busy)
            entries.append((tag, entry, fate))
            if fate == "cancelled":
                batcher.cancel(entry)
            if tag % 50 == 0:
                await asyncio.sleep(0.01)
                if place.held:
                    place.release()
        while batcher.queue.rows or place.held:
            await asyncio.sleep(0.01)
            if place.held:
                place.release()

    clock.run(main())
    for tag, entry, fate in entries:
        check_fate(tag, entry, fate)


def check_fate(tag: int, entry: Tagged, fate: str) -> None:
    """Who has little time is refused when the wait is longer; all others are answered, or are the culprits."""
    assert len(entry.answers) + len(entry.errors) == (0 if fate == "cancelled" else 1)
    for answer in entry.answers:
        assert tag % 97 != 0
        np.testing.assert_array_equal(answer["y"], entry.rows["x"] * 2)
    for error in entry.errors:
        assert (isinstance(error, Late | Busy) and fate == "expires") or tag % 97 == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 7), st.sampled_from(["stays", "cancelled"])), max_size=30), st.integers(1, 9))
def test_every_entry_that_stays_is_answered_with_its_own_rows(sizes: list[tuple[int, str]], most: int) -> None:
    clock, backend = FakeClock(), FakeBackend()
    entries = []

    async def main() -> None:
        batcher = batcher_of(backend, clock, max_batch_rows=most)
        for tag, (size, fate) in enumerate(sizes):
            entry = Tagged()
            entry.load(rows_of(*[tag] * size), size, FAR, passage())
            batcher.submit_nowait(entry)
            entries.append((tag, size, fate, entry))
            if fate == "cancelled":
                batcher.cancel(entry)
        await asyncio.sleep(1)
        assert (batcher.waiting_rows, batcher.waiting_bytes) == (0, 0)

    clock.run(main())
    assert max(backend.batches, default=0) <= most
    for tag, size, fate, entry in entries:
        assert [answer["y"][:, 0].tolist() for answer in entry.answers] == ([[tag * 2 + 1] * size] if fate == "stays" else [])


def test_stamps_tell_when_a_request_was_queued_started_and_computed() -> None:
    clock, place = FakeClock(), HeldPlace()
    stamped = passage()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place)
        work = asyncio.ensure_future(batcher.submit(rows_of(1, 2), FAR, stamped))
        await asyncio.sleep(1.0)
        place.release()
        await work

    clock.run(main())
    assert (stamped.queued, stamped.started, stamped.computed) == pytest.approx((1000.0, 1000.0, 1001.0))
    assert (stamped.rows, stamped.batch_rows) == (2, 2)
