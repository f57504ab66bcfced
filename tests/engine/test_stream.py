"""Answers in pieces: as they come, no faster than they are taken, and ended with their caller."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from foretell.backends.python import StreamingModel
from foretell.engine.engine import Engine
from foretell.engine.stream import MOST_STREAMS
from foretell.errors import Broken, Busy, ForetellError, Late
from foretell.pipeline import Pipeline
from foretell.request import NO_DEADLINE, Request
from foretell.settings import EngineSettings
from foretell.tensors import Arrays, Signature, TensorSpec
from foretell.testing import FakeBackend, HeldPlace, RecordingObserver

COUNT = Signature((TensorSpec.parse("upto", "INT64"),), (TensorSpec.parse("n", "INT64"),))


class Counting:
    """Counts up to what it is asked for, and remembers how far it came."""

    signature = COUNT

    def __init__(self) -> None:
        self.reached = 0
        self.closed = 0

    def forward(self, inputs: Arrays) -> Arrays:
        return {"n": inputs["upto"]}

    def stream(self, inputs: Arrays) -> Iterator[Arrays]:
        try:
            for n in range(int(inputs["upto"][0])):
                self.reached = n + 1
                if n == 666:
                    raise RuntimeError("secret")
                yield {"n": np.array([n])}
        finally:
            self.closed += 1


def request_of(upto: int, deadline: float = NO_DEADLINE) -> Request:
    return Request({"upto": np.array([upto])}, 0.0, deadline)


async def started(model: Any, *observers: Any) -> Engine:
    backend = StreamingModel(COUNT, model.forward, model.stream) if isinstance(model, Counting) else model
    engine = Engine("m", "1", Pipeline(backend), EngineSettings(), observers, clock=lambda: 0.0)
    await engine.start()
    model.closed = model.reached = 0
    return engine


async def taken(pieces: AsyncGenerator[Arrays, None]) -> list[int]:
    return [int(piece["n"][0]) async for piece in pieces]


def test_pieces_come_in_their_order_and_observers_see_one_passage() -> None:
    seen, model = RecordingObserver(), Counting()

    async def main() -> list[int]:
        engine = await started(model, seen)
        numbers = await taken(engine.stream(request_of(5)))
        await engine.stop()
        return numbers

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert (seen.codes, model.closed) == (["ok"], 1)


def test_a_slow_reader_holds_the_generator() -> None:
    model = Counting()

    async def main() -> None:
        engine = await started(model)
        async with aclosing(engine.stream(request_of(1000))) as pieces:
            await anext(pieces)
            await anext(pieces)
            await engine.infer(request_of(1))  # behind whatever the generator does in its thread
            assert model.reached == 2
        await engine.stop()

    asyncio.run(main())


def test_a_caller_that_goes_away_ends_the_generator() -> None:
    model, seen = Counting(), RecordingObserver()

    async def main() -> None:
        engine = await started(model, seen)
        async with aclosing(engine.stream(request_of(1000))) as pieces:
            await anext(pieces)
        await engine.infer(request_of(1))
        assert (model.closed, engine.streaming, engine.in_flight) == (1, 0, 0)
        await engine.stop()

    asyncio.run(main())
    assert seen.codes == ["cancelled", "ok"]


def test_an_error_comes_behind_the_pieces_before_it_without_its_words() -> None:
    seen, numbers = RecordingObserver(), []

    async def main() -> None:
        engine = await started(Counting(), seen)
        try:
            async for piece in engine.stream(request_of(1000)):
                numbers.append(int(piece["n"][0]))
        finally:
            await engine.stop()

    with pytest.raises(Broken, match="raised an error") as caught:
        asyncio.run(main())
    assert numbers == list(range(666))
    assert (seen.codes, caught.value.code) == (["model_failed"], "model_failed")


def test_a_piece_that_is_not_as_declared_is_refused() -> None:
    class Wrong(Counting):
        def stream(self, inputs: Arrays) -> Iterator[Arrays]:
            yield {"n": np.array([1.5])}

    async def main() -> None:
        engine = await started(Wrong())
        with pytest.raises(Broken, match="declared as INT64"):
            await taken(engine.stream(request_of(1)))
        await engine.stop()

    asyncio.run(main())


def test_the_deadline_ends_a_stream_whose_step_takes_too_long() -> None:
    seen = RecordingObserver()

    async def main() -> None:
        engine = await started(Counting(), seen)
        held = HeldPlace()
        engine.place.close()
        engine.place = held  # type: ignore[assignment]  # a place in which nothing ever ends
        with pytest.raises(Late) as caught:
            await taken(engine.stream(request_of(5, deadline=0.01)))
        assert caught.value.code == "deadline_passed"
        assert len(held.held) == 2  # the step that hangs, and the end of the generator behind it

    asyncio.run(main())
    assert seen.codes == ["deadline_passed"]


def test_a_reader_that_never_reads_on_holds_no_place_after_its_deadline() -> None:
    seen, model = RecordingObserver(), Counting()

    async def main() -> None:
        engine = await started(model, seen)
        streams = [engine.stream(request_of(5, deadline=0.05)) for _ in range(MOST_STREAMS)]
        for each in streams:
            await anext(each)
        async with asyncio.timeout(5):
            while engine.streaming:
                await asyncio.sleep(0)
        assert await taken(engine.stream(request_of(3))) == [0, 1, 2]
        assert model.closed == MOST_STREAMS + 1
        with pytest.raises(Late):
            await anext(streams[0])
        await engine.halt()  # which waits for streams
        assert engine.in_flight == 0
        for each in streams:
            await each.aclose()

    asyncio.run(main())
    assert seen.codes == ["deadline_passed"] * MOST_STREAMS + ["ok"]


def test_more_streams_than_there_may_be_are_refused_and_come_free_again() -> None:
    async def main() -> None:
        engine = await started(Counting())
        streams = [engine.stream(request_of(5)) for _ in range(MOST_STREAMS)]
        for each in streams:
            await anext(each)
        with pytest.raises(Busy):
            await taken(engine.stream(request_of(5)))
        await streams.pop().aclose()
        assert len(await taken(engine.stream(request_of(5)))) == 5
        for each in streams:
            await each.aclose()
        await engine.stop()

    asyncio.run(main())


def test_a_model_that_does_not_stream_gives_its_one_answer() -> None:
    async def main() -> list[Arrays]:
        engine = Engine("m", "1", Pipeline(FakeBackend()), EngineSettings(), (), clock=lambda: 0.0)
        await engine.start()
        pieces = [piece async for piece in engine.stream(Request({"x": np.ones((1, 2), np.float32)}, 0.0))]
        await engine.stop()
        return pieces

    assert [piece["y"].tolist() for piece in asyncio.run(main())] == [[[3, 3]]]


def test_a_refusal_of_the_input_comes_before_any_piece() -> None:
    seen = RecordingObserver()

    async def main() -> None:
        engine = await started(Counting(), seen)
        with pytest.raises(ForetellError):
            await taken(engine.stream(Request({"upto": np.array(["a"], dtype=object)}, 0.0)))
        await engine.stop()

    asyncio.run(main())
    assert seen.codes == ["wrong_dtype"]
