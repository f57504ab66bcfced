"""The service of jobs in one process: each is done once, told as it ended, and given back when it must be."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foretell.errors import Busy, Mismatched, Missing, Unavailable
from foretell.jobs.job import Job, Outcome, State, new_id
from foretell.jobs.ledger import Gathered
from foretell.jobs.store import open_store
from tests.jobs.working import LIMITS, Reads, Worker, run


def test_a_job_is_done_and_its_result_kept(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        job = await worker.end(await worker.submit(b"what to do"))
        assert (job.state, job.result, job.attempts) == (State.DONE, b"what to do", 1)
        assert worker.ended == [(job.id, State.DONE)]

    run(Worker(tmp_path), body)


def test_a_running_job_is_cancelled_at_once(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        worker.hold.clear()
        job = await worker.submit()
        await worker.begun()
        await worker.service.cancel(job.id)
        assert (await worker.end(job)).state is State.CANCELLED
        assert set(worker.ended) == {(job.id, State.CANCELLED)}

    run(Worker(tmp_path), body)


def test_a_job_that_is_cancelled_while_it_waits_is_announced_too(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        job = await worker.submit()
        await worker.service.cancel(job.id)
        await worker.service.cancel(job.id)
        assert worker.ended == [(job.id, State.CANCELLED)]

    run(Worker(tmp_path, most=0), body)


def test_who_waits_for_a_job_that_another_has_to_do_again_waits_for_that(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        store, lost = worker.service.ledger.store, list[str]()

        def finish(outcomes: Sequence[Outcome]) -> list[bool]:
            if lost:
                return [bool(store.finish(outcomes))]
            lost.extend(outcome.id for outcome in outcomes)
            store.put_back(lost[0], worker.name, 0.0)  # as if its lease had lapsed
            return [False]

        worker.service.ledger.finish = Gathered(finish, worker.service.ledger.threads)
        job = await worker.submit()
        assert (await worker.end(job)).state is State.DONE
        assert worker.seen == [job.id, job.id]

    run(Worker(tmp_path), body)


def test_a_store_that_takes_nothing_more_takes_a_cancelling(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        job = await worker.submit()

        def full(jobs: Sequence[Job]) -> Sequence[Job]:
            raise Unavailable("store_full", "no room")

        worker.service.ledger.submit = Gathered(full, worker.service.ledger.threads)
        worker.follows = [Job(new_id(), "work", b"", 0.0, 0.0)]
        assert (await worker.service.cancel(job.id)).state is State.CANCELLED

    run(Worker(tmp_path, most=0), body)


def test_a_job_that_another_process_cancels_is_ended_at_the_next_look(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        worker.hold.clear()
        job = await worker.submit()
        await worker.begun()
        open_store(str(tmp_path)).cancel(job.id)
        assert (await worker.end(job)).state is State.CANCELLED

    run(Worker(tmp_path), body)


def test_a_lease_is_kept_as_long_as_the_work_lasts(tmp_path: Path) -> None:
    async def body() -> None:
        limits = replace(LIMITS, lease_s=0.5)
        async with Worker(tmp_path, limits, name="first") as first, Worker(tmp_path, limits, most=1, name="second") as second:
            first.hold.clear()
            second.hold.clear()
            jobs = [await first.submit() for _ in range(5)]
            await first.begun(4)
            await asyncio.sleep(1.2)  # longer than two leases: real time, since the store's clock is that of all processes
            first.hold.set()
            second.hold.set()
            assert {(await first.end(job)).attempts for job in jobs} == {1}
            assert len(first.seen) + len(second.seen) == 5

    asyncio.run(body())


def test_ten_thousand_keys_make_as_many_jobs_and_no_more(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        keys = [f"key {number}" for number in range(10_000)]
        first = await asyncio.gather(*(worker.submit(key=key, fingerprint="f") for key in keys))
        again = await asyncio.gather(*(worker.submit(key=key, fingerprint="f") for key in keys[::10]))
        assert len({job.id for job in first}) == 10_000
        assert [job.id for job in again] == [job.id for job in first[::10]]
        with pytest.raises(Mismatched, match="another request"):
            await worker.submit(key=keys[0], fingerprint="other")

    run(Worker(tmp_path, replace(LIMITS, waiting=50_000), most=0), body)


def test_one_key_that_is_refused_does_not_hurt_who_comes_with_it(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        await worker.submit(key="k", fingerprint="f")
        told = await asyncio.gather(
            *(worker.submit(key="k", fingerprint=str(number)) if number % 3 else worker.submit() for number in range(30)),
            return_exceptions=True,
        )
        assert [type(each) for each in told] == [Mismatched if number % 3 else Job for number in range(30)]

    run(Worker(tmp_path), body)


def test_a_full_backlog_is_busy(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        for _ in range(3):
            await worker.submit()
        with pytest.raises(Busy, match=r"jobs\.waiting") as refused:
            await worker.submit()
        assert refused.value.details["retry_after_s"]

    run(Worker(tmp_path, replace(LIMITS, waiting=3), most=0), body)


def test_a_full_disk_takes_no_more_jobs(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        with pytest.raises(Unavailable, match="no room"):
            await worker.submit()

    run(Worker(tmp_path / "state", replace(LIMITS, folder=tmp_path, least_free_bytes=2**60)), body)


def test_a_result_is_deleted_after_its_time_to_live(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        job = await worker.end(await worker.submit())

        async def gone() -> None:
            while True:
                await worker.service.get(job.id)
                await asyncio.sleep(0.01)

        with pytest.raises(Missing, match="time to live"):
            await asyncio.wait_for(gone(), 10)

    run(Worker(tmp_path, replace(LIMITS, keep_s=0.2)), body)


def test_who_waits_is_told_at_once_and_a_stop_lets_go_of_who_waits(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        worker.hold.clear()
        job = await worker.submit()
        await worker.begun()
        waiting = [asyncio.ensure_future(worker.service.wait(job.id, 20.0)) for _ in range(5)]
        started = time.monotonic()
        worker.service.drain()
        assert {(await each).state for each in waiting} == {State.RUNNING}
        assert time.monotonic() - started < 5

    run(Worker(tmp_path), body)


def test_who_waits_reads_the_body_of_a_job_once(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        worker.hold.clear()
        job = await worker.submit(bytes(2**20))
        await worker.begun()
        read: list[str] = []
        worker.service.ledger.store = Reads(worker.service.ledger.store, read)
        waiting = asyncio.ensure_future(worker.service.wait(job.id, 20.0))
        while read.count("list") < 3:
            await asyncio.sleep(0.01)
        worker.hold.set()
        assert len((await waiting).result or b"") == 2**20
        assert read.count("get") == 1

    run(Worker(tmp_path), body)


def test_an_end_right_behind_the_look_of_who_waits_is_not_missed(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        worker.hold.clear()
        job = await worker.submit()
        await worker.begun()
        loop, looks = asyncio.get_running_loop(), list[str]()

        def look(**asked: Any) -> Sequence[Job]:
            found = store.list(**asked)
            looks.append(found[0].state.value)
            loop.call_soon_threadsafe(worker.hold.set)
            while worker.service.running:
                time.sleep(0.001)  # in a thread of the store's
            return found

        store = worker.service.ledger.store
        worker.service.ledger.store = Reads(store, [], list=look)
        assert (await worker.end(job)).state is State.DONE
        assert looks == ["running"]

    run(Worker(tmp_path), body)
