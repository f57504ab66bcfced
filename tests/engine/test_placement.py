"""Where forwards run, chosen by what warming up measured."""

import asyncio
import threading

import numpy as np
import pytest

from foretell.engine.batcher import Outcome
from foretell.engine.placement import Inline, Threaded, WarmUp, choose_place, made_up_rows, warm_up
from foretell.tensors import Arrays, Signature, TensorSpec
from foretell.testing import FakeBackend


def test_a_short_forward_runs_inline_and_a_long_one_in_a_thread() -> None:
    assert isinstance(choose_place(WarmUp(0.1, 50e-6), 200.0), Inline)
    assert isinstance(choose_place(WarmUp(0.1, 300e-6), 200.0), Threaded)


def test_a_model_that_could_not_be_measured_runs_in_a_thread() -> None:
    assert isinstance(choose_place(WarmUp(0.0, None), 200.0), Threaded)


def test_warming_up_runs_the_model_alone_and_in_its_largest_batch() -> None:
    backend = FakeBackend()
    assert warm_up(backend, 16).forward_s is not None
    assert set(backend.batches) == {1, 16}


def test_warming_up_tries_longer_rows_when_short_ones_are_refused() -> None:
    def at_least_30(inputs: Arrays) -> Arrays:
        if inputs["x"].shape[1] < 30:
            raise ValueError("too short")
        return {"y": inputs["x"]}

    any_length = Signature((TensorSpec.parse("x", "FP32[?]"),), (TensorSpec.parse("y", "FP32[?]"),))
    assert warm_up(FakeBackend(at_least_30, any_length), 4).forward_s is not None


def test_a_model_that_refuses_every_made_up_row_is_reported_as_unmeasured_with_its_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def never(inputs: Arrays) -> Arrays:
        raise ValueError("not that")

    assert warm_up(FakeBackend(never), 4) == WarmUp(0.0, None, "ValueError: not that")
    assert "not that" in caplog.text


def test_made_up_rows_conform_to_the_signature() -> None:
    inputs = tuple(TensorSpec.parse(name, text) for name, text in (("a", "FP32[?, 3]"), ("b", "BYTES"), ("c", "BOOL[2]")))
    signature = Signature(inputs, ())
    rows = made_up_rows(signature, 2, 5)
    assert {name: array.shape for name, array in rows.items()} == {"a": (2, 5, 3), "b": (2,), "c": (2, 2)}
    assert rows["b"].tolist() == [b"", b""]
    assert signature.conform(rows) is not None


def test_a_thread_of_its_own_computes_and_hands_back_on_the_loop() -> None:
    async def main() -> tuple[str, str]:
        place = Threaded()
        done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        names: list[str] = []

        def work() -> list[Outcome]:
            names.append(threading.current_thread().name)
            return [{"y": np.zeros(1, np.float32)}]

        def hand_back(outcomes: list[Outcome]) -> None:
            names.append(threading.current_thread().name)
            done.set_result(outcomes)

        place.run(work, hand_back)
        await done
        place.close()
        return names[0], names[1]

    worker, loop = asyncio.run(main())
    assert worker.startswith("forward")
    assert loop == "MainThread"
