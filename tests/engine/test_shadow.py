"""Copies of requests for a shadow: after the answer, bounded, and never anything to a caller."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from foretell.comparison import Comparison
from foretell.engine.engine import Engine
from foretell.engine.shadow import MOST_BYTES, MOST_COPIES, Shadow
from foretell.pipeline import Pipeline
from foretell.request import SHADOW, Request
from foretell.settings import EngineSettings
from foretell.tensors import Arrays
from foretell.testing import FakeBackend, FakeClock, HeldPlace, RecordingObserver, double_plus_one


class Setting:
    """A model whose answers are copied to a shadow that computes ``compute``."""

    def __init__(self, clock: FakeClock, compute: Callable[[Arrays], Arrays] = double_plus_one, **limits: Any) -> None:
        self.clock = clock
        self.observer = RecordingObserver()
        self.told: list[Comparison] = []
        self.backend = FakeBackend(compute)
        self.stable = Engine("m", "1", Pipeline(FakeBackend()), EngineSettings(), clock=clock)
        self.copied = Engine("m", "3", Pipeline(self.backend), EngineSettings(**limits), [self.observer], clock)

    async def start(self) -> None:
        await self.stable.start()
        await self.copied.start()
        self.backend.batches.clear()
        self.stable.after = Shadow(self.copied, self.told.append).take

    async def ask(self, *rows: list[float]) -> Arrays:
        inputs = {"x": np.array(rows, np.float32)}
        return await self.stable.infer(Request(inputs, self.clock(), self.clock() + 30, "r-1", "http"))

    @property
    def outcomes(self) -> list[str]:
        return [each.outcome for each in self.told]


def run(test: Callable[[Setting], Coroutine[Any, Any, None]], compute: Callable[[Arrays], Arrays] = double_plus_one) -> Setting:
    clock = FakeClock()
    setting = Setting(clock, compute)

    asyncio.run(setting.start())
    clock.run(test(setting))
    return setting


def worse(inputs: Arrays) -> Arrays:
    return {"y": np.add(double_plus_one(inputs)["y"], np.float32(0.25))}


def broken(inputs: Arrays) -> Arrays:
    if inputs["x"].any():
        raise RuntimeError("no")
    return double_plus_one(inputs)


def test_a_copy_is_computed_after_the_answer_and_compared() -> None:
    async def test(setting: Setting) -> None:
        await setting.ask([1, 2], [3, 4])
        assert setting.backend.batches == []
        await asyncio.sleep(1)

    setting = run(test, worse)
    (told,) = setting.told
    assert (told.model, told.version, told.outcome) == ("m", "3", "compared")
    assert (told.rows, told.differing, told.values, told.difference, told.largest) == (2, 2, 4, 1.0, 0.25)


def test_a_copy_has_a_passage_of_its_own_that_says_so() -> None:
    async def test(setting: Setting) -> None:
        await setting.ask([1, 2])
        await asyncio.sleep(1)

    (passage,) = run(test).observer.passages
    assert (passage.mode, passage.version, passage.id) == ("shadow", "3", "r-1")


def test_copies_are_last_in_line() -> None:
    seen: list[Request] = []

    async def test(setting: Setting) -> None:
        infer = setting.copied.infer
        setting.copied.infer = lambda request: seen.append(request) or infer(request)  # type: ignore[method-assign, func-returns-value]
        await setting.ask([1, 2])
        await asyncio.sleep(1)

    run(test)
    assert [request.priority for request in seen] == [SHADOW]


def test_a_shadow_that_fails_changes_no_answer_and_is_counted() -> None:
    async def test(setting: Setting) -> None:
        answer = await setting.ask([1, 2])
        assert answer["y"].tolist() == [[3, 5]]
        await asyncio.sleep(1)

    assert run(test, broken).outcomes == ["failed"]


def test_copies_that_wait_are_bounded_and_the_rest_is_dropped() -> None:
    async def test(setting: Setting) -> None:
        for _ in range(MOST_COPIES + 3):
            await setting.ask([1, 2])
        assert setting.outcomes == ["dropped"] * 3
        await asyncio.sleep(10)

    setting = run(test)
    assert setting.outcomes == ["dropped"] * 3 + ["compared"] * MOST_COPIES


def test_copies_that_wait_are_bounded_in_bytes() -> None:
    async def test(setting: Setting) -> None:
        rows = [[0.0, 0.0]] * (MOST_BYTES // 16 - 1)
        await setting.ask(*rows)
        await setting.ask([1, 2], [3, 4])

    assert run(test).outcomes == ["dropped"]


def test_a_shadow_in_the_loop_computes_one_copy_at_a_time() -> None:
    async def test(setting: Setting) -> None:
        for _ in range(5):
            await setting.ask([1, 2])
        await asyncio.sleep(1)

    assert run(test).backend.batches == [1] * 5


def test_a_shadow_elsewhere_computes_what_waits_in_one_batch() -> None:
    async def test(setting: Setting) -> None:
        place = HeldPlace()
        setting.copied.place = setting.copied.batcher.place = place  # type: ignore[assignment]
        setting.copied.quick = False
        for _ in range(5):
            await setting.ask([1, 2])
        await asyncio.sleep(0.01)
        assert len(place.held) == 1
        place.release()
        await asyncio.sleep(0.01)

    setting = run(test)
    assert setting.backend.batches == [5]
    assert setting.outcomes == ["compared"] * 5


def test_a_shadow_that_is_taken_down_gets_no_copies() -> None:
    async def test(setting: Setting) -> None:
        await setting.copied.halt()
        await setting.ask([1, 2])

    assert run(test).outcomes == ["dropped"]


def test_what_fails_is_not_copied() -> None:
    async def test(setting: Setting) -> None:
        with pytest.raises(Exception, match="x"):
            await setting.stable.infer(Request({}, setting.clock(), setting.clock() + 30))
        await asyncio.sleep(1)

    assert run(test).told == []
