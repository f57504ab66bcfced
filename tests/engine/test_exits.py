"""Models and steps that raise what is no Exception: their caller is told, and the model goes on."""

import asyncio

import numpy as np
import pytest

from foretell.errors import Broken
from foretell.pipeline import Pipeline
from foretell.steps import Function
from foretell.tensors import Arrays
from foretell.testing import FakeBackend, FakeClock
from tests.engine.batching import FAR, batcher_of, passage, rows_of


class Panic(BaseException):
    """As those of extensions that are written in Rust."""


ODD = [SystemExit(3), asyncio.CancelledError(), GeneratorExit(), Panic()]


def moody(error: BaseException) -> FakeBackend:
    """A model that raises this for a row that begins with -9."""

    def compute(inputs: Arrays) -> Arrays:
        if (inputs["x"] == -9).any():
            raise error
        return {"y": inputs["x"]}

    return FakeBackend(compute)


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_whatever_a_model_raises_is_its_callers_answer_and_the_model_goes_on(error: BaseException) -> None:
    async def main() -> None:
        batcher = batcher_of(moody(error), clock)
        answers = [batcher.submit(rows_of(value), FAR, passage()) for value in (1, -9, 2)]
        good, bad, late = await asyncio.gather(*answers, return_exceptions=True)
        assert isinstance(bad, Broken)
        assert bad.code == "model_failed"
        assert [float(each["y"][0, 0]) for each in (good, late)] == [1.0, 2.0]  # type: ignore[index]  # no errors
        await batcher.submit(rows_of(4), FAR, passage())

    clock = FakeClock()
    clock.run(main())


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_whatever_a_step_raises_is_its_callers_answer(error: BaseException) -> None:
    def step(arrays: Arrays) -> Arrays:
        raise error

    pipeline = Pipeline(FakeBackend(), postprocess=[Function(step)])
    with pytest.raises(Broken, match="a step of the pipeline raised"):
        pipeline({"x": np.zeros((1, 2), np.float32)})


def test_an_interrupt_from_the_keyboard_is_nobodys_answer() -> None:
    with pytest.raises(KeyboardInterrupt):
        Pipeline(moody(KeyboardInterrupt()))({"x": np.full((1, 2), -9, np.float32)})
