"""One pipeline for many callers: what each is answered, and what observers are shown."""

import asyncio
from typing import Any

import numpy as np
import pytest

from foretell.engine.engine import Engine
from foretell.errors import Broken, ForetellError, Invalid
from foretell.passage import Passage
from foretell.pipeline import Pipeline
from foretell.request import Request
from foretell.settings import EngineSettings
from foretell.steps import Function
from foretell.tensors import Arrays
from foretell.testing import FakeBackend, FakeClock, RecordingObserver


def request_of(*values: float, **more: Any) -> Request:
    return Request({"x": np.array([[value, value] for value in values], np.float32)}, received=1000.0, **more)


async def started(pipeline: Pipeline, *observers: Any, clock: FakeClock | None = None, **settings: Any) -> Engine:
    engine = Engine("m", "1", pipeline, EngineSettings(**settings), observers, clock or FakeClock())
    await engine.start()
    return engine


def test_an_answer_equals_the_pipeline_and_is_shown_to_observers_once() -> None:
    seen = RecordingObserver()
    pipeline = Pipeline(FakeBackend())

    async def main() -> Arrays:
        engine = await started(pipeline, seen)
        return await engine.infer(request_of(1, 2))

    request = request_of(1, 2)
    np.testing.assert_array_equal(asyncio.run(main())["y"], pipeline(request.inputs)["y"])
    assert seen.codes == ["ok"]
    assert (seen.passages[0].rows, seen.passages[0].model, seen.passages[0].version) == (2, "m", "1")


def test_both_ways_to_ask_give_the_same_answer() -> None:
    async def main() -> None:
        seen = RecordingObserver()
        engine = await started(Pipeline(FakeBackend()), seen)
        replies: list[tuple[Arrays | None, ForetellError | None]] = []
        engine.infer_nowait(request_of(3), lambda outputs, error: replies.append((outputs, error)))
        awaited = await engine.infer(request_of(3))
        [(outputs, error)] = replies
        assert error is None
        assert outputs is not None
        np.testing.assert_array_equal(outputs["y"], awaited["y"])
        assert seen.codes == ["ok", "ok"]

    asyncio.run(main())


def test_a_refusal_of_the_pipeline_reaches_its_caller_both_ways() -> None:
    async def main() -> None:
        seen = RecordingObserver()
        engine = await started(Pipeline(FakeBackend()), seen)
        bad = Request({"wrong": np.zeros((1, 2), np.float32)}, 0.0)
        errors: list[ForetellError | None] = []
        engine.infer_nowait(bad, lambda outputs, error: errors.append(error))
        with pytest.raises(Invalid):
            await engine.infer(bad)
        assert [error.code if error else None for error in errors] == ["missing_input"]
        assert seen.codes == ["missing_input", "missing_input"]
        assert engine.in_flight == 0

    asyncio.run(main())


def test_neighbours_in_one_batch_are_not_touched_by_each_others_fate() -> None:
    """One invalid, one cancelled, one expired, one whose postprocess raises: the others are bit-equal to alone."""

    def refuse_negative(outputs: Arrays) -> Arrays:
        if np.less(outputs["y"], 0).any():
            raise ValueError("negative")
        return outputs

    pipeline = Pipeline(FakeBackend(), postprocess=[Function(refuse_negative, slow=False)])
    clock = FakeClock()
    seen = RecordingObserver()

    async def main() -> list[Arrays | BaseException]:
        engine = await started(pipeline, seen, clock=clock, max_wait_s=0.01)  # so that all are in the queue at once
        requests = [
            request_of(1),
            Request({"x": np.zeros((1, 3), np.float32)}, 1000.0),
            request_of(2),
            request_of(3, deadline=clock() - 1),
            request_of(-4),
            request_of(5),
            request_of(6),
        ]
        tasks = [asyncio.ensure_future(engine.infer(request)) for request in requests]
        await asyncio.sleep(0)
        tasks[5].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    one, invalid, two, late, broken, gone, six = asyncio.run(main())
    for answer, value in ((one, 1), (two, 2), (six, 6)):
        assert isinstance(answer, dict)
        assert answer["y"].tobytes() == pipeline(request_of(value).inputs)["y"].tobytes()
    assert [getattr(error, "code", type(error).__name__) for error in (invalid, late, broken, gone)] == [
        "wrong_shape",
        "deadline_passed",
        "step_failed",
        "CancelledError",
    ]
    assert sorted(seen.codes) == sorted(["ok", "ok", "ok", "wrong_shape", "deadline_passed", "step_failed", "cancelled"])


def test_what_a_step_raises_is_broken_without_its_words() -> None:
    def secret(arrays: Arrays) -> Arrays:
        raise RuntimeError("/etc/secret")

    async def main() -> None:
        engine = await started(Pipeline(FakeBackend(), preprocess=[Function(secret, slow=False)]))
        with pytest.raises(Broken) as broken:
            await engine.infer(request_of(1))
        assert "secret" not in broken.value.message

    asyncio.run(main())


def test_a_failing_observer_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def failing(passage: Passage) -> None:
        raise RuntimeError("observer")

    async def main() -> None:
        seen = RecordingObserver()
        engine = await started(Pipeline(FakeBackend()), failing, seen)
        await engine.infer(request_of(1))
        assert seen.codes == ["ok"]

    asyncio.run(main())
    assert "an observer failed" in caplog.text


def test_slow_steps_run_in_a_thread() -> None:
    import threading

    threads: list[str] = []

    def note(arrays: Arrays) -> Arrays:
        threads.append(threading.current_thread().name)
        return arrays

    async def main() -> None:
        engine = await started(Pipeline(FakeBackend(), preprocess=[Function(note)], postprocess=[Function(note, slow=False)]))
        assert not engine.quick
        await engine.infer(request_of(1))

    asyncio.run(main())
    assert "MainThread" not in threads
    assert len(threads) == 2


def test_cancelling_a_request_of_infer_nowait_tells_observers_and_not_the_caller() -> None:
    async def main() -> None:
        seen = RecordingObserver()
        engine = await started(Pipeline(FakeBackend()), seen)
        replies: list[object] = []
        journey = engine.infer_nowait(request_of(1), lambda *reply: replies.append(reply))
        engine.cancel(journey)
        engine.cancel(journey)
        await asyncio.sleep(0.01)
        assert replies == []
        assert seen.codes == ["cancelled"]

    asyncio.run(main())


def test_stopping_closes_the_model_and_refuses_what_comes() -> None:
    async def main() -> None:
        backend = FakeBackend()
        engine = await started(Pipeline(backend))
        await engine.stop()
        await engine.stop()
        assert backend.closed
        with pytest.raises(ForetellError) as refused:
            await engine.infer(request_of(1))
        assert refused.value.code == "not_ready"

    asyncio.run(main())


def test_a_refused_request_can_not_be_cancelled_too() -> None:
    async def main() -> None:
        seen = RecordingObserver()
        engine = await started(Pipeline(FakeBackend()), seen)
        engine.batcher.close()
        engine.cancel(engine.infer_nowait(request_of(1), lambda outputs, error: None))
        assert seen.codes == ["not_ready"]
        assert engine.in_flight == 0

    asyncio.run(main())


def test_a_mistake_of_ours_is_told_to_observers_and_raised() -> None:
    async def main() -> None:
        seen = RecordingObserver()
        engine = await started(Pipeline(FakeBackend()), seen)
        nonsense: Any = {"x": 3}
        with pytest.raises(AttributeError):
            await engine.infer(Request(nonsense, 0.0))
        assert seen.codes == ["internal"]
        assert engine.in_flight == 0

    asyncio.run(main())
