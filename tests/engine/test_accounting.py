"""Every request that an engine receives is shown to its observers exactly once, by what became of it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.engine.batcher import Batcher
from foretell.engine.cache import Answers
from foretell.engine.engine import Engine
from foretell.engine.queue import Entry
from foretell.errors import ForetellError
from foretell.passage import Passage
from foretell.pipeline import Pipeline
from foretell.request import LOW, NORMAL, URGENT, Request
from foretell.settings import EngineSettings
from foretell.steps import Function
from foretell.tensors import Arrays
from foretell.testing import FakeBackend, FakeClock, HeldPlace, RecordingObserver

KINDS = {
    "ok": "accepted",
    "model_failed": "accepted",
    "step_failed": "accepted",
    "queue_full": "rejected",
    "overloaded": "rejected",
    "wrong_shape": "rejected",
    "deadline_passed": "expired",
    "cancelled": "cancelled",
}
ACTS = st.tuples(
    st.sampled_from(["come", "come", "come", "come", "go", "wait", "run"]),
    st.integers(0, 40),
    st.sampled_from([1.0, 2.0, 3.0, 13.0, -1.0, np.nan]),
    st.sampled_from([-0.1, 0.02, 0.5, 30.0]),
    st.sampled_from([URGENT, NORMAL, LOW]),
    st.sampled_from("abc"),
)


def unlucky(inputs: Arrays) -> Arrays:
    if (inputs["x"] == 13).any():
        raise ValueError("unlucky")
    return {"y": inputs["x"] * 2}


def refuse_negative(outputs: Arrays) -> Arrays:
    if np.less(outputs["y"], 0).any():
        raise ValueError("negative")
    return outputs


def held_engine(clock: FakeClock, place: HeldPlace, seen: RecordingObserver, **changes: Any) -> Engine:
    """An engine whose calls wait to be released, without warming up."""
    backend = FakeBackend(unlucky)
    limits = EngineSettings(queue_rows=8, max_batch_rows=4, execute_timeout_s=1.0, **changes)
    engine = Engine("m", "1", Pipeline(backend, postprocess=[Function(refuse_negative, slow=False)]), limits, [seen], clock)
    engine.batcher = Batcher(backend.forward, backend.signature, place, limits, clock)
    engine.entrance = Answers(engine.batcher, copies=True) if limits.share_duplicates else engine.batcher
    return engine


@settings(max_examples=150, deadline=None)
@given(
    st.lists(ACTS, max_size=60),
    st.fixed_dictionaries(
        {
            "queue_timeout_s": st.sampled_from([0.0, 0.3]),
            "share_duplicates": st.booleans(),
            "cache_bytes": st.sampled_from([0, 5000]),
        }
    ),
)
def test_accepted_rejected_cancelled_and_expired_are_exactly_what_was_received(
    acts: list[tuple[str, int, float, float, int, str]], changes: dict[str, Any]
) -> None:
    clock, place, seen = FakeClock(), HeldPlace(), RecordingObserver()
    told: Counter[str] = Counter()
    gone = 0

    def reply(outputs: Arrays | None, error: ForetellError | None) -> None:
        told[error.code if error else "ok"] += 1

    async def main() -> None:
        nonlocal gone
        engine = held_engine(clock, place, seen, **changes)
        entries: list[Entry] = []
        for act, which, value, due_s, priority, caller in acts:
            if act == "come":
                shape = (1, 3) if np.isnan(value) else (1, 2)
                request = Request({"x": np.full(shape, value, np.float32)}, clock(), clock() + due_s)
                request.caller, request.priority = caller, priority
                entries.append(engine.infer_nowait(request, reply))
            elif act == "go" and which < len(entries):
                gone += entries[which].wanted
                engine.cancel(entries[which])
            elif act == "wait":
                await asyncio.sleep(which / 20)
            elif act == "run":
                await asyncio.sleep(0)
                if place.held:
                    place.release()
        await asyncio.sleep(0)
        while place.held:
            place.release()
            await asyncio.sleep(0)
        received = len(entries)
        kinds = Counter(KINDS[code] for code in seen.codes)
        assert sum(kinds.values()) == received
        assert kinds["cancelled"] == gone
        assert sum(told.values()) + gone == received
        assert engine.in_flight == engine.batcher.waiting_rows == engine.batcher.waiting_bytes == 0

    clock.run(main())


def test_urgent_is_taken_at_its_word_where_the_operator_allows_it() -> None:
    clock, place, seen = FakeClock(), HeldPlace(), RecordingObserver()
    by_parameter = Request({}, 0.0, parameters={"priority": 1})
    for urgent, rank in ((False, NORMAL), (True, URGENT)):
        engine = held_engine(clock, place, seen, urgent=urgent)
        assert engine.rank(by_parameter) == engine.rank(Request({}, 0.0, priority=URGENT)) == rank
        assert engine.rank(Request({}, 0.0, parameters={"priority": 3})) == LOW


def test_an_answer_from_the_cache_is_shown_as_such_and_has_the_same_postprocessing() -> None:
    async def main() -> None:
        seen, backend = RecordingObserver(), FakeBackend()

        def add_in_place(outputs: Arrays) -> Arrays:
            outputs["y"][:] = np.add(outputs["y"], 1)
            return outputs

        pipeline = Pipeline(backend, postprocess=[Function(add_in_place, slow=False)])
        engine = Engine("m", "1", pipeline, EngineSettings(cache_bytes=10_000), [seen])
        await engine.start()
        backend.batches.clear()
        answers = [await engine.infer(Request({"x": np.ones((1, 2), np.float32)}, 0.0)) for _ in range(3)]
        assert [answer["y"].tolist() for answer in answers] == [[[4, 4]]] * 3
        assert backend.batches == [1]
        assert [passage.cached for passage in seen.passages] == [False, True, True]

    asyncio.run(main())


def test_what_comes_after_an_answer_sees_the_request_and_the_answer_once_it_was_given() -> None:
    async def main() -> None:
        engine = Engine("m", "1", Pipeline(FakeBackend()), EngineSettings())
        await engine.start()
        order: list[object] = []
        request = Request({"x": np.ones((1, 2), np.float32)}, 0.0)
        engine.after = lambda asked, outputs: order.append((asked is request, outputs["y"].tolist()))
        engine.infer_nowait(request, lambda outputs, error: order.append("reply"))
        await asyncio.sleep(0.01)
        engine.infer_nowait(Request({}, 0.0), lambda outputs, error: order.append("refused"))
        assert order == ["reply", (True, [[3, 3]]), "refused"]

    asyncio.run(main())


def test_those_that_one_call_answered_are_counted_before_the_first_is_answered() -> None:
    """Whoever sees an answer finds it in the metrics; an observer that fails hides nothing from the others."""
    clock, place, seen = FakeClock(), HeldPlace(), RecordingObserver()
    order: list[str] = []

    class Together:
        def __call__(self, passage: Passage) -> None:
            order.append("one")

        def see_all(self, passages: Sequence[Passage]) -> None:
            order.append(f"{len(passages)} together")
            raise ValueError("a mistake of the observer")

    async def main() -> None:
        engine = held_engine(clock, place, seen)
        engine = Engine("m", "1", engine.pipeline, engine.settings, [Together(), seen], clock)
        engine.batcher = Batcher(engine.pipeline.model.forward, engine.pipeline.model.signature, place, engine.settings, clock)
        engine.entrance = engine.batcher
        for _ in range(3):
            request = Request({"x": np.ones((1, 2), np.float32)}, clock(), clock() + 9)
            engine.infer_nowait(request, lambda outputs, error: order.append(f"reply after {len(seen.passages)}"))
        await asyncio.sleep(0)
        place.release()
        assert engine.in_flight == 0

    clock.run(main())
    assert order == ["3 together", *["reply after 3"] * 3]
