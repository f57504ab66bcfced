"""More than a model can do: who is let in, who is first, and who is told what, at once."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.engine.batcher import Batcher
from foretell.errors import Busy, Late
from foretell.request import LOW, NORMAL, SHADOW, URGENT
from foretell.tensors import Arrays
from foretell.testing import FakeBackend, FakeClock, HeldPlace
from tests.engine.batching import Tagged, batcher_of, busy, codes, entry_of, passage, rows_of


def test_what_has_other_parameters_for_the_model_never_shares_a_call() -> None:
    clock, backend = FakeClock(), FakeBackend()

    async def main() -> None:
        batcher = batcher_of(backend, clock)
        for apart in (None, None, {"a": 1}, {"a": 1}, {"a": 2}, None):
            entry = entry_of(1, clock)
            entry.apart = apart
            batcher.submit_nowait(entry)
        await asyncio.sleep(1)

    clock.run(main())
    assert backend.batches == [2, 2, 1, 1]


def test_what_is_of_another_priority_never_shares_a_call_and_urgent_ones_are_first() -> None:
    clock, backend, place = FakeClock(), FakeBackend(), HeldPlace()
    order: list[float] = []

    def compute(inputs: Arrays) -> Arrays:
        order.extend(inputs["x"][:, 0].tolist())
        return {"y": inputs["x"]}

    backend.compute = compute

    async def main() -> None:
        batcher = batcher_of(backend, clock, place)
        await busy(batcher, clock)
        for value, priority in ((1, SHADOW), (2, LOW), (3, NORMAL), (4, URGENT), (5, NORMAL)):
            batcher.submit_nowait(entry_of(value, clock, priority=priority))
        while place.held:
            place.release()
            await asyncio.sleep(0)

    clock.run(main())
    assert order == [0, 4, 3, 5, 2, 1]
    assert backend.batches == [1, 1, 2, 1, 1]


def test_a_queue_timeout_is_answered_within_50_ms_while_the_model_is_busy_and_is_never_run() -> None:
    clock, backend, place = FakeClock(), FakeBackend(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(backend, clock, place, queue_timeout_s=0.3)
        await busy(batcher, clock)
        with pytest.raises(Late) as late:
            await batcher.submit(rows_of(2), clock() + 10, passage())
        assert 1000.3 <= clock.now < 1000.35
        assert late.value.details["phase"] == "queue"
        assert late.value.details["waited_ms"] == pytest.approx(300, abs=50)
        place.release()
        await asyncio.sleep(1)

    clock.run(main())
    assert backend.batches == [1]


def test_an_execute_timeout_is_answered_and_nothing_more_is_taken_until_the_call_ends(caplog: pytest.LogCaptureFixture) -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place, execute_timeout_s=0.5)
        with pytest.raises(Late) as late:
            await batcher.submit(rows_of(1), clock() + 10, passage())
        assert late.value.details["phase"] == "execute"
        assert clock.now == pytest.approx(1000.5, abs=0.05)
        for _ in range(3):
            with pytest.raises(Busy) as refused:
                batcher.submit_nowait(entry_of(2, clock))
            assert refused.value.code == "overloaded"
            await asyncio.sleep(0.1)
        assert batcher.overdue_calls == 1
        place.release()
        batcher.submit_nowait(entry_of(3, clock))
        await asyncio.sleep(0)
        place.release()

    clock.run(main())
    assert caplog.text.count("engine.execute_timeout_s") == 1


def test_the_phase_of_a_deadline_is_total_wherever_it_passes() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place)
        entries = [entry_of(1, clock, due_s=0.2), entry_of(2, clock, due_s=0.2)]
        batcher.submit_nowait(entries[0])
        await asyncio.sleep(0)
        batcher.submit_nowait(entries[1])
        await asyncio.sleep(0.3)
        assert [entry.errors[0].details["phase"] for entry in entries] == ["total", "total"]

    clock.run(main())


async def taught(batcher: Batcher, clock: FakeClock, place: HeldPlace, seconds: float, times: int = 5) -> None:
    """Let the model have taken so long for a row."""
    for _ in range(times):
        await busy(batcher, clock)
        await asyncio.sleep(seconds)
        place.release()
        await asyncio.sleep(0)


def test_a_request_that_cannot_make_its_deadline_is_refused_at_once_with_an_honest_time() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place, max_batch_rows=1)
        await taught(batcher, clock, place, 1.0)
        await busy(batcher, clock)
        for value in range(3):
            batcher.submit_nowait(entry_of(value, clock))
        with pytest.raises(Busy) as refused:
            batcher.submit_nowait(entry_of(9, clock, due_s=4.5))
        assert refused.value.code == "overloaded"
        assert refused.value.details["retry_after_s"] == pytest.approx(4.0, abs=0.2)
        batcher.submit_nowait(entry_of(9, clock, due_s=6.5))

    clock.run(main())


def test_a_model_that_is_idle_refuses_nothing_however_slow_it_was() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place)
        await taught(batcher, clock, place, 60.0)
        batcher.submit_nowait(entry_of(1, clock, due_s=0.1))

    clock.run(main())


def test_one_slow_call_is_soon_forgotten() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place)
        await taught(batcher, clock, place, 0.01)
        await taught(batcher, clock, place, 10.0, times=1)
        await busy(batcher, clock)
        batcher.submit_nowait(entry_of(1, clock, due_s=0.1))

    clock.run(main())


def test_one_slow_call_of_many_rows_refuses_nobody_once_another_was_quick() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place)
        await taught(batcher, clock, place, 0.002)
        for value in range(40):
            batcher.submit_nowait(entry_of(value, clock))
        await asyncio.sleep(5)
        place.release()
        await taught(batcher, clock, place, 0.002, times=2)
        await busy(batcher, clock)
        for value in range(60):
            batcher.submit_nowait(entry_of(value, clock, due_s=1.0))

    clock.run(main())


def test_a_model_that_has_become_slower_is_learnt_within_ten_calls() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place)
        await taught(batcher, clock, place, 0.01)
        await taught(batcher, clock, place, 0.2, times=10)
        await busy(batcher, clock)
        with pytest.raises(Busy):
            batcher.submit_nowait(entry_of(1, clock, due_s=0.1))

    clock.run(main())


def test_a_full_queue_refuses_the_caller_that_holds_most_of_it_and_not_the_newcomer() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place, queue_rows=10)
        await busy(batcher, clock)
        heavy = [entry_of(value, clock, caller="heavy") for value in range(10)]
        for entry in heavy:
            batcher.submit_nowait(entry)
        with pytest.raises(Busy):
            batcher.submit_nowait(entry_of(11, clock, caller="heavy"))
        light = [entry_of(value, clock, caller="light") for value in range(6)]
        refused = 0
        for entry in light:
            try:
                batcher.submit_nowait(entry)
            except Busy:
                refused += 1
        assert refused == 1
        assert codes(heavy) == ["nothing"] * 5 + ["queue_full"] * 5
        assert batcher.waiting_rows == 10

    clock.run(main())


def test_what_is_urgent_takes_the_room_of_what_is_not() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        batcher = batcher_of(FakeBackend(), clock, place, queue_rows=4)
        await busy(batcher, clock)
        shadows = [entry_of(value, clock, priority=SHADOW) for value in range(4)]
        for entry in shadows:
            batcher.submit_nowait(entry)
        batcher.submit_nowait(entry_of(1, clock))
        assert codes(shadows) == ["nothing"] * 3 + ["queue_full"]
        with pytest.raises(Busy):
            batcher.submit_nowait(entry_of(1, clock, priority=SHADOW))

    clock.run(main())


def test_a_member_that_has_gone_is_not_run_again_alone() -> None:
    clock, place = FakeClock(), HeldPlace()
    seen: list[list[float]] = []

    def refuse(inputs: Arrays) -> Arrays:
        seen.append(inputs["x"][:, 0].tolist())
        if len(inputs["x"]) > 1:
            entries[1].wanted = False
            raise ValueError("too many")
        return {"y": inputs["x"]}

    entries = [entry_of(value, clock) for value in (1, 2, 3)]

    async def main() -> None:
        batcher = batcher_of(FakeBackend(refuse), clock, place)
        for entry in entries:
            batcher.submit_nowait(entry)
        await asyncio.sleep(0)
        place.release()

    clock.run(main())
    assert seen == [[1, 2, 3], [1], [3]]
    assert codes(entries) == ["ok", "nothing", "ok"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["come", "come", "come", "go", "wait", "run"]),
            st.integers(0, 30),
            st.integers(1, 3),
            st.sampled_from([0.02, 0.5, 1e6]),
            st.sampled_from([URGENT, NORMAL, NORMAL, LOW, SHADOW]),
            st.sampled_from("abc"),
        ),
        max_size=60,
    ),
    st.sampled_from([0.0, 0.3]),
)
def test_everything_that_came_ends_in_exactly_one_way_and_the_queue_counts_what_waits(
    acts: list[tuple[str, int, int, float, int, str]], queue_timeout_s: float
) -> None:
    clock, backend, place = FakeClock(), FakeBackend(), HeldPlace()
    entries: list[Tagged] = []
    gone: set[int] = set()

    async def main() -> None:
        batcher = batcher_of(
            backend, clock, place, queue_rows=12, max_batch_rows=4, queue_timeout_s=queue_timeout_s, execute_timeout_s=1.0
        )
        for act, which, count, due_s, priority, caller in acts:
            if act == "come":
                entry = Tagged()
                rows = rows_of(*[len(entries)] * count)
                entry.load(rows, count, clock() + due_s, passage(), caller, priority)
                entries.append(entry)
                try:
                    batcher.submit_nowait(entry)
                except (Busy, Late) as error:
                    entry.wanted = False
                    entry.fail(error)
            elif act == "go" and which < len(entries) and entries[which].wanted:
                gone.add(which)
                batcher.cancel(entries[which])
            elif act == "wait":
                await asyncio.sleep(which / 20)
            elif act == "run":
                await asyncio.sleep(0)
                if place.held:
                    place.release()
            assert batcher.waiting_rows == sum(entry.count for entry in batcher.queue)
            assert batcher.waiting_bytes == sum(entry.size for entry in batcher.queue)
        await asyncio.sleep(0)
        while place.held:
            place.release()
            await asyncio.sleep(0)

    clock.run(main())
    for number, entry in enumerate(entries):
        assert len(entry.answers) + len(entry.errors) == (0 if number in gone else 1)
        assert all((answer["y"] == number * 2 + 1).all() for answer in entry.answers)
    assert max(backend.batches, default=0) <= 4
