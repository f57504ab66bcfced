"""Requests that were in the model when it died."""

import asyncio
from collections.abc import Iterable

import numpy as np

from foretell.engine.batcher import Batcher
from foretell.engine.suspects import MOST, Suspects, fingerprint
from foretell.errors import Unavailable
from foretell.suspicion import Suspicion
from foretell.tensors import Arrays
from foretell.testing import FakeBackend, FakeClock, HeldPlace
from tests.engine.batching import Tagged, batcher_of, codes, entry_of, passage

CLOCK = FakeClock()


def shared() -> memoryview:
    return memoryview(bytearray(8 * MOST)).cast("Q")


def with_rows(rows: Arrays) -> Tagged:
    entry = Tagged()
    entry.load(rows, 1, 1e9, passage())
    return entry


def test_the_fingerprints_of_a_call_are_there_while_it_runs() -> None:
    own = shared()
    suspects = Suspects(own)
    entries = [entry_of(value, CLOCK) for value in (1, 2)]
    noted = suspects.begin(entries, "x")
    assert list(own[:3]) == [fingerprint(entries[0]), fingerprint(entries[1]), 0]
    suspects.end(noted)
    assert not any(own)


def test_models_that_run_side_by_side_do_not_overwrite_each_other() -> None:
    own = shared()
    suspects = Suspects(own)
    first, second, third = (suspects.begin([entry_of(value, CLOCK)]) for value in (1, 2, 3))
    suspects.end(first)
    suspects.begin([entry_of(4, CLOCK)] * 100)
    suspects.end(third)
    assert fingerprint(entry_of(2, CLOCK)) in list(own)
    suspects.end(second)
    assert fingerprint(entry_of(2, CLOCK)) not in list(own)


def test_a_new_process_starts_without_suspects() -> None:
    own = shared()
    Suspects(own).begin([entry_of(1, CLOCK)])
    Suspects(own)
    assert not any(own)


def test_what_was_in_the_model_at_two_crashes_is_refused_and_its_neighbours_are_not() -> None:
    suspects = Suspects()
    culprit = entry_of(13, CLOCK)
    for value in (1, 2):
        noted = suspects.begin([entry_of(value, CLOCK), culprit])
        suspects.crashed(noted)
        assert not suspects.refusals([entry_of(value, CLOCK)])
    [(refused, error)] = suspects.refusals([entry_of(1, CLOCK), again := entry_of(13, CLOCK)])
    assert (refused, error.code) == (again, "refused_request")


def test_what_the_supervisor_refuses_is_never_run() -> None:
    clock, backend, place, suspicion = FakeClock(), FakeBackend(), HeldPlace(), Suspicion()

    async def main() -> None:
        batcher = batcher_of(backend, clock, place)
        batcher.suspects = Suspects(shared(), suspicion)
        entries = [entry_of(value, clock) for value in (1, 13, 2)]
        suspicion.refused.add(fingerprint(entries[1]))
        for entry in entries:
            batcher.submit_nowait(entry)
        await asyncio.sleep(0)
        place.release()
        assert codes(entries) == ["ok", "refused_request", "ok"]

    clock.run(main())
    assert backend.batches == [2]


def die_of_13(inputs: Arrays) -> Arrays:
    if (inputs["x"] == 13).any():
        raise Unavailable("model_crashed", "it died", retry_after_s=1)
    return {"y": inputs["x"]}


async def asked_at_once(batcher: Batcher, place: HeldPlace, clock: FakeClock, values: Iterable[float]) -> list[str]:
    """What each is told, when all come together to an idle model."""
    entries = [entry_of(value, clock) for value in values]
    for entry in entries:
        batcher.submit_nowait(entry)
    await asyncio.sleep(0)
    while batcher.running:
        place.release()
        await asyncio.sleep(0)
    return codes(entries)


def test_who_comes_again_together_with_what_makes_the_models_process_crash_is_answered() -> None:
    clock, place, backend = FakeClock(), HeldPlace(), FakeBackend(die_of_13)

    async def main() -> None:
        batcher = batcher_of(backend, clock, place)
        batcher.suspects = Suspects()
        told = [await asked_at_once(batcher, place, clock, (1, 13, 2)) for _ in range(3)]
        assert told == [["model_crashed"] * 3, ["ok", "model_crashed", "ok"], ["ok", "refused_request", "ok"]]
        assert backend.batches == [3, 1, 1, 1, 2]

    clock.run(main())


def test_what_comes_to_be_suspected_while_it_waits_is_computed_alone_and_then_is_no_suspect() -> None:
    clock, place, backend, suspicion = FakeClock(), HeldPlace(), FakeBackend(), Suspicion()

    async def main() -> None:
        batcher = batcher_of(backend, clock, place)
        batcher.suspects = Suspects(shared(), suspicion)
        first, *entries = [entry_of(value, clock) for value in range(6)]
        batcher.submit_nowait(first)
        await asyncio.sleep(0)
        for entry in entries:
            batcher.submit_nowait(entry)
        suspicion.crashed([fingerprint(entry) for entry in entries[:3]])  # elsewhere
        while batcher.running:
            place.release()
            await asyncio.sleep(0)
        assert codes([first, *entries]) == ["ok"] * 6
        assert backend.batches == [1, 2, 1, 1, 1]
        assert not list(suspicion.suspected)
        assert await asked_at_once(batcher, place, clock, range(6)) == ["ok"] * 6
        assert backend.batches[5:] == [6]

    clock.run(main())


def test_a_fingerprint_is_the_same_in_every_process_and_for_every_layout() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(1, 12)
    spread = np.repeat(rows, 2, axis=1)[:, ::2]
    assert fingerprint(with_rows({"x": rows})) == fingerprint(with_rows({"x": spread})) == 2288205502
    suspects = Suspects()
    suspects.begin([with_rows({"x": rows}), with_rows({"x": spread})], "x")
    assert list(suspects.own[:2]) == [2288205502] * 2


def test_bytes_objects_large_rows_and_several_inputs_have_fingerprints_too() -> None:
    def of(*values: object) -> int:
        return fingerprint(with_rows({"x": np.array(values, object)}))

    assert of(b"ab", b"c") != of(b"a", b"bc")
    assert of(b"ab") == of(bytes(bytearray(b"ab")))
    large = np.zeros((1, 10**5), np.float32)
    other = large.copy()
    other[0, 3] = 1
    assert fingerprint(with_rows({"x": large})) != fingerprint(with_rows({"x": other}))
    two = {"a": np.zeros(1), "b": np.ones(1)}
    assert fingerprint(with_rows(two)) != fingerprint(with_rows({"a": np.zeros(1), "b": np.zeros(1)}))
