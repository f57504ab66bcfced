"""Answers without a call of the model: kept ones, and those computed for somebody else."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.engine.cache import Answers, Kept, key_of
from foretell.errors import Busy, Late
from foretell.request import LOW
from foretell.tensors import Array, Arrays, Signature, TensorSpec
from foretell.testing import FakeBackend, FakeClock, HeldPlace
from tests.engine.batching import Tagged, batcher_of, codes, entry_of, passage

BYTES = Signature((TensorSpec.parse("x", "BYTES"),), (TensorSpec.parse("y", "BYTES"),))


def answers_of(
    clock: FakeClock, place: HeldPlace, backend: FakeBackend | None = None, *, copies: bool = False, **more: Any
) -> Answers:
    given = {"share_duplicates": True, "cache_bytes": 2**20, **more}
    return Answers(batcher_of(backend or FakeBackend(), clock, place, **given), copies=copies)


async def ask(answers: Answers, place: HeldPlace, value: float, clock: FakeClock) -> Tagged:
    """One row, with the model released for it."""
    entry = entry_of(value, clock)
    answers.submit_nowait(entry)
    await asyncio.sleep(0)
    if place.held:
        place.release()
    return entry


def tagged(array: Array) -> Tagged:
    entry = Tagged()
    entry.load({"x": array}, len(array), 1e9, passage())
    return entry


def test_an_answer_that_was_given_is_given_again_without_the_model() -> None:
    clock, place, backend = FakeClock(), HeldPlace(), FakeBackend()

    async def main() -> None:
        answers = answers_of(clock, place, backend)
        first, again, other = [await ask(answers, place, value, clock) for value in (1, 1, 2)]
        assert backend.batches == [1, 1]
        np.testing.assert_array_equal(first.answers[0]["y"], again.answers[0]["y"])
        assert [entry.passage.cached for entry in (first, again, other)] == [False, True, False]

    clock.run(main())


def test_duplicates_in_flight_are_computed_once_and_each_is_answered() -> None:
    clock, place, backend = FakeClock(), HeldPlace(), FakeBackend()

    async def main() -> None:
        answers = answers_of(clock, place, backend, cache_bytes=0)
        entries = [entry_of(1, clock) for _ in range(5)]
        for entry in entries[:3]:
            answers.submit_nowait(entry)
        await asyncio.sleep(0)
        for entry in entries[3:]:
            answers.submit_nowait(entry)
        place.release()
        assert codes(entries) == ["ok"] * 5
        assert backend.batches == [1]
        assert [entry.passage.cached for entry in entries] == [False, True, True, True, True]
        assert answers.joined_rows == 0
        later = await ask(answers, place, 1, clock)
        assert (codes([later]), backend.batches) == (["ok"], [1, 1])

    clock.run(main())


def test_the_first_of_duplicates_may_go_away_without_hurting_the_others() -> None:
    clock, place, backend = FakeClock(), HeldPlace(), FakeBackend()

    async def main() -> None:
        answers = answers_of(clock, place, backend)
        entries = [entry_of(1, clock) for _ in range(3)]
        for entry in entries:
            answers.submit_nowait(entry)
        answers.cancel(entries[0])
        await asyncio.sleep(0)
        place.release()
        assert codes(entries) == ["nothing", "ok", "ok"]

    clock.run(main())


def test_when_all_of_the_duplicates_go_away_nothing_is_run() -> None:
    clock, place, backend = FakeClock(), HeldPlace(), FakeBackend()

    async def main() -> None:
        answers = answers_of(clock, place, backend)
        entries = [entry_of(1, clock) for _ in range(3)]
        for entry in entries:
            answers.submit_nowait(entry)
        for entry in entries:
            answers.cancel(entry)
        await asyncio.sleep(1)
        assert (place.held, answers.batcher.waiting_rows, answers.joined_rows) == ([], 0, 0)
        assert codes([await ask(answers, place, 1, clock)]) == ["ok"]

    clock.run(main())


def test_each_of_the_duplicates_has_its_own_deadline() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        answers = answers_of(clock, place)
        entries = [entry_of(1, clock, due_s=due_s) for due_s in (2.0, 0.5, 9.0)]
        for entry in entries:
            answers.submit_nowait(entry)
        await asyncio.sleep(0.6)
        assert codes(entries) == ["nothing", "deadline_passed", "nothing"]
        assert isinstance(entries[1].errors[0], Late)
        await asyncio.sleep(2)
        assert codes(entries) == ["deadline_passed", "deadline_passed", "nothing"]
        place.release()
        assert codes(entries)[2] == "ok"

    clock.run(main())


def test_a_failure_is_told_to_all_and_is_not_kept() -> None:
    clock, place = FakeClock(), HeldPlace()
    fails = [True]

    def compute(inputs: Arrays) -> Arrays:
        if fails.pop() if fails else False:
            raise ValueError("once")
        return {"y": inputs["x"]}

    async def main() -> None:
        answers = answers_of(clock, place, FakeBackend(compute))
        entries = [entry_of(1, clock) for _ in range(2)]
        for entry in entries:
            answers.submit_nowait(entry)
        await asyncio.sleep(0)
        place.release()
        assert codes(entries) == ["model_failed", "model_failed"]
        assert codes([await ask(answers, place, 1, clock)]) == ["ok"]

    clock.run(main())


def test_nobody_can_write_into_what_another_is_given() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        answers = answers_of(clock, place)
        [first, second] = [await ask(answers, place, 1, clock) for _ in range(2)]
        first.answers[0]["y"][:] = 77
        assert second.answers[0]["y"].tolist() == [[3, 3]]
        with pytest.raises(ValueError, match="read-only"):
            second.answers[0]["y"][:] = 77

    clock.run(main())


def test_steps_that_write_are_given_copies() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        answers = answers_of(clock, place, copies=True)
        [_, second, third] = [await ask(answers, place, 1, clock) for _ in range(3)]
        second.answers[0]["y"][:] = 77
        assert third.answers[0]["y"].tolist() == [[3, 3]]

    clock.run(main())


def test_those_who_wait_for_anothers_computation_are_bounded_too() -> None:
    clock, place = FakeClock(), HeldPlace()

    async def main() -> None:
        answers = answers_of(clock, place, queue_rows=4)
        refused = 0
        for _ in range(3):
            answers.submit_nowait(entry_of(0, clock))
            await asyncio.sleep(0)
        for _ in range(20):
            try:
                answers.submit_nowait(entry_of(1, clock))
            except Busy:
                refused += 1
        assert refused >= 12

    clock.run(main())


def test_the_least_recently_used_goes_when_the_bytes_are_used_up() -> None:
    kept = Kept(3 * 1100)
    outputs = {"y": np.zeros(100, np.float32)}
    for key in ("a", "b", "c"):
        kept.put((key,), 100, outputs)
    assert kept.get(("a",)) is not None
    kept.put(("d",), 100, outputs)
    assert [kept.get((key,)) is not None for key in "abcd"] == [True, False, True, True]
    assert kept.size <= kept.most_bytes
    kept.put(("large",), 100, {"y": np.zeros(10_000, np.float32)})
    assert kept.get(("large",)) is None


def test_what_is_kept_does_not_hold_the_batch_that_it_was_cut_from() -> None:
    kept = Kept(10_000)
    kept.put(("a",), 8, {"y": np.zeros((1000, 2), np.float32)[3:4]})
    found = kept.get(("a",))
    assert found is not None
    assert found["y"].base is None


@given(
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=8, max_size=8),
    st.sampled_from(["<f4", "<i4", "<f8", "<u2"]),
    st.sampled_from(["<f4", "<i4", "<f8", "<u2"]),
)
def test_two_requests_are_the_same_if_every_byte_datatype_and_shape_is(a: bytes, b: bytes, one: str, two: str) -> None:
    first, second = np.frombuffer(a, one).reshape(1, -1), np.frombuffer(b, two).reshape(1, -1)
    assert (key_of(tagged(first)) == key_of(tagged(second))) == (a == b and one == two)
    assert key_of(tagged(first)) != key_of(tagged(first.reshape(-1, 1))) or first.size == 1


def test_minus_zero_is_not_zero_and_byte_strings_are_compared_as_a_whole() -> None:
    def key(*values: object, dtype: str = "f4") -> object:
        return key_of(tagged(np.array(values, dtype)))

    assert key(0.0) != key(-0.0)
    assert key(b"ab", b"c", dtype="O") != key(b"a", b"bc", dtype="O")
    assert key(b"ab", dtype="O") == key(b"ab", dtype="O")
    assert key("ab", dtype="O") is None
    assert key_of(tagged(np.zeros(2**20, np.float32))) is None


def test_another_priority_or_parameter_is_another_request() -> None:
    clock = FakeClock()
    assert key_of(entry_of(1, clock)) != key_of(entry_of(1, clock, priority=LOW))
    entry = entry_of(1, clock)
    entry.apart = {"temperature": 1}
    assert key_of(entry) is None
