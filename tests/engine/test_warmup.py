"""Where forwards run, chosen by what warming up measured."""

import asyncio
import threading

import numpy as np
import pytest

from foretell.backends import load_backend
from foretell.engine.batcher import Outcome
from foretell.engine.placement import Inline, Threaded
from foretell.engine.warmup import WarmUp, choose_place, fit_batches, made_up_rows, random_rows, warm_up
from foretell.settings import EngineSettings
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec
from foretell.testing import FakeBackend
from tests.backends import graphs


def test_a_short_forward_runs_inline_and_a_long_one_in_a_thread() -> None:
    assert isinstance(choose_place(WarmUp(0.1, 50e-6), 200.0), Inline)
    assert isinstance(choose_place(WarmUp(0.1, 300e-6), 200.0), Threaded)


def test_a_model_that_could_not_be_measured_runs_in_a_thread() -> None:
    assert isinstance(choose_place(WarmUp(0.0, None), 200.0), Threaded)


def test_warming_up_runs_the_model_alone_and_in_its_largest_batch() -> None:
    backend = FakeBackend()
    assert warm_up(backend, 16).forward_s is not None
    assert {1, 16} <= set(backend.batches)


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


def test_a_model_in_a_process_of_its_own_is_never_waited_for_on_the_loop() -> None:
    assert isinstance(choose_place(WarmUp(0.1, 1e-6, isolated=True), 200.0), Threaded)


def test_rows_that_do_not_disturb_each_other_are_found_so() -> None:
    disturbance = warm_up(load_backend(graphs.linear(features=30).SerializeToString()), 16).disturbance
    assert disturbance is not None
    assert disturbance.difference < 1e-6
    assert disturbance.allowed


def test_rows_that_share_a_scale_are_found_with_the_output_and_how_much() -> None:
    model = load_backend(graphs.dynamically_quantized().SerializeToString())
    disturbance = warm_up(model, 16).disturbance
    assert disturbance is not None
    assert not disturbance.allowed
    assert disturbance.difference > 1e-3
    assert str(disturbance).startswith("rows of a batch change each other's 'y' by up to 0.")


def test_labels_that_depend_on_the_others_are_a_whole_difference() -> None:
    def most_of_the_batch(inputs: Arrays) -> Arrays:
        return {"label": (inputs["x"][:, 0] >= inputs["x"][:, 0].max()).astype(np.int64)}

    signature = Signature((TensorSpec.parse("x", "FP32[2]"),), (TensorSpec.parse("label", "INT64"),))
    disturbance = warm_up(FakeBackend(most_of_the_batch, signature), 4).disturbance
    assert disturbance is not None
    assert (disturbance.difference, disturbance.allowed) == (1.0, False)


def test_not_every_model_takes_random_rows_and_that_is_no_failure() -> None:
    def zeros_only(inputs: Arrays) -> Arrays:
        if inputs["x"].any():
            raise ValueError("not that")
        return {"y": inputs["x"]}

    warm = warm_up(FakeBackend(zeros_only), 4)
    assert warm.forward_s is not None
    assert warm.disturbance is None


def test_a_model_that_is_never_batched_is_not_tried_in_batches() -> None:
    backend = FakeBackend()
    assert warm_up(backend, 1).disturbance is None
    assert set(backend.batches) == {1}


def test_random_rows_conform_are_the_same_each_time_and_each_another() -> None:
    inputs = tuple(TensorSpec.parse(str(i), f"{dtype}[3, ?]") for i, dtype in enumerate(Datatype))
    signature = Signature(inputs, ())
    rows = random_rows(signature, 4, 50)
    again = random_rows(signature, 4, 50)
    assert signature.conform(rows) == rows
    for name, array in rows.items():
        assert array.shape == (4, 3, 50)
        np.testing.assert_array_equal(array, again[name])
        assert all(not np.array_equal(array[0], array[i]) for i in range(1, 4))


def test_random_rows_of_a_model_without_rows_are_one_whole_input() -> None:
    signature = Signature((TensorSpec.parse("a", "FP32"), TensorSpec.parse("b", "FP32[2, 2]")), (), rows=False)
    assert {name: array.shape for name, array in random_rows(signature, 1, 1).items()} == {"a": (), "b": (2, 2)}


def test_dynamic_quantization_is_computed_row_by_row_unless_its_configuration_says_otherwise() -> None:
    settings = EngineSettings(max_batch_rows=64)
    quantized = load_backend(graphs.dynamically_quantized().SerializeToString())
    assert fit_batches(settings, {}, quantized).max_batch_rows == 1
    assert fit_batches(settings, {"max_batch_rows": 64}, quantized).max_batch_rows == 64
    assert fit_batches(settings, {}, load_backend(graphs.linear().SerializeToString())) is settings
