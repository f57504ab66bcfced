"""One kind of work in one process: claimed, begun, interrupted at any moment, and recorded as it ended."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from foretell.errors import Invalid
from foretell.jobs.desk import Why
from foretell.jobs.job import Failure, Job, Outcome, State
from foretell.jobs.ledger import Gathered
from foretell.jobs.store import open_store
from foretell.jobs.work import Again, Done
from tests.jobs.working import Reads, Worker, run


def test_no_more_jobs_run_at_a_time_than_there_is_room_for(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        worker.hold.clear()
        jobs = [await worker.submit() for _ in range(10)]
        await worker.begun(4)
        assert len(worker.service.running) == 4
        worker.hold.set()
        assert {(await worker.end(job)).state for job in jobs} == {State.DONE}
        assert sorted(worker.seen) == sorted(job.id for job in jobs)

    run(Worker(tmp_path), body)


def test_what_cannot_be_done_now_is_tried_again_until_the_last_attempt(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        worker.answers = [Again(0.0, Failure("internal", "first")), Done(b"good")]
        job = await worker.end(await worker.submit())
        assert (job.result, job.attempts) == (b"good", 2)
        worker.answers = [Again(0.0, Failure("internal", str(number))) for number in range(5)]
        job = await worker.end(await worker.submit())
        assert (job.state, job.error, job.attempts) == (State.FAILED, Failure("internal", "2"), 3)

    run(Worker(tmp_path), body)


def test_an_attempt_that_was_not_begun_does_not_count(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        worker.answers = [Again(0.0), Again(0.0), Again(0.0), Again(0.0), Done(b"good")]
        job = await worker.end(await worker.submit())
        assert (job.result, job.attempts) == (b"good", 1)

    run(Worker(tmp_path), body)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Invalid("bad_row", "row 3 is bad"), Failure("bad_row", "row 3 is bad")),
        (ZeroDivisionError("/etc/shadow"), Failure("internal", "the server made a mistake on this job")),
    ],
)
def test_a_job_that_raises_fails_with_what_its_owner_may_be_told(tmp_path: Path, error: Exception, failure: Failure) -> None:
    async def body(worker: Worker) -> None:
        worker.answers = [error]
        job = await worker.end(await worker.submit())
        assert (job.state, job.error) == (State.FAILED, failure)

    run(Worker(tmp_path), body)


def test_a_job_that_is_cancelled_between_its_claim_and_its_begin_frees_its_place(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        loop, desk = asyncio.get_running_loop(), worker.service.desks["work"]

        def interrupt() -> None:
            if desk.running:
                desk.interrupt(list(desk.running), Why.CANCELLED)
            else:
                loop.call_soon(interrupt)

        interrupt()
        assert (await worker.end(await worker.submit())).state is State.CANCELLED
        assert worker.seen == []
        assert (await worker.end(await worker.submit())).state is State.DONE

    run(Worker(tmp_path, most=1), body)


@pytest.mark.parametrize("why", Why)
def test_a_job_that_is_done_stays_so_though_it_is_interrupted_while_that_is_recorded(tmp_path: Path, why: Why) -> None:
    async def body(worker: Worker) -> None:
        loop, desk, store = asyncio.get_running_loop(), worker.service.desks["work"], worker.service.ledger.store

        def finish(outcomes: Sequence[Outcome]) -> frozenset[str]:
            interrupted = threading.Event()
            loop.call_soon_threadsafe(desk.interrupt, [outcome.id for outcome in outcomes], why)
            loop.call_soon_threadsafe(loop.call_soon, interrupted.set)
            interrupted.wait(10)
            return store.finish(outcomes)

        worker.service.ledger.finish = Gathered(lambda outcomes: [bool(finish(outcomes))], worker.service.ledger.threads)
        assert (await worker.end(await worker.submit())).state is State.DONE
        assert len(worker.seen) == 1

    run(Worker(tmp_path), body)


def test_a_job_that_is_claimed_while_the_service_stops_is_given_back(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        loop, store = asyncio.get_running_loop(), worker.service.ledger.store

        def claim(*asked: Any) -> Sequence[Job]:
            found = store.claim(*asked)
            if found:
                loop.call_soon_threadsafe(worker.service.drain)
            return found

        worker.service.ledger.store = Reads(store, [], claim=claim)
        job = await worker.submit()
        while not worker.service.desks["work"]._stopping:
            await asyncio.sleep(0.001)
        await worker.service.stop(5.0)
        assert worker.seen == []
        with closing(open_store(str(tmp_path))) as again:
            [found] = again.list()
            assert (found.id, found.state, found.attempts) == (job.id, State.WAITING, 0)

    run(Worker(tmp_path), body)


def test_a_kind_of_jobs_may_have_more_attempts_than_others(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        worker.answers = [Again(0.0, Failure("webhook_failed", "not heard"))] * 9
        job = await worker.end(await worker.submit(most_attempts=9))
        assert (job.state, len(worker.seen)) == (State.FAILED, 8)

    run(Worker(tmp_path), body)


def test_a_stop_gives_back_what_does_not_end_in_time_and_another_does_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with Worker(tmp_path, name="first") as first:
            first.hold.clear()
            job = await first.submit()
            await first.begun()
            await first.service.stop(0.05)
        async with Worker(tmp_path, name="second") as second:
            done = await second.end(job)
            assert (done.state, done.attempts) == (State.DONE, 1)

    asyncio.run(body())


def test_two_processes_never_do_the_same_job(tmp_path: Path) -> None:
    async def body() -> None:
        async with Worker(tmp_path, name="first") as first, Worker(tmp_path, name="second") as second:
            jobs = [await (first, second)[number % 2].submit() for number in range(60)]
            for job in jobs:
                assert (await second.end(job)).state is State.DONE
            assert sorted(first.seen + second.seen) == sorted(job.id for job in jobs)

    asyncio.run(body())
