"""The service of jobs in one process: each is done once, told as it ended, and given back when it must be."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.errors import Busy, Invalid, Mismatched, Missing, Unavailable
from foretell.jobs.desk import Trade, Why
from foretell.jobs.envelope import pack, unpack
from foretell.jobs.job import Failure, Job, Outcome, State, new_id
from foretell.jobs.ledger import Gathered, Ledger
from foretell.jobs.limits import Limits
from foretell.jobs.service import JobService
from foretell.jobs.store import JobStore, open_store
from foretell.jobs.work import Again, Done, Notes

LIMITS = Limits(lease_s=1.0, poll_s=0.02)
Body = Callable[["Worker"], Awaitable[None]]


@dataclass
class Worker:
    """A service with a kind of work that does as it is told; ``seen`` are the ids that were begun."""

    folder: Path
    limits: Limits = LIMITS
    most: int = 4
    name: str = "w"
    answers: list[Done | Exception] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    ended: list[tuple[str, State]] = field(default_factory=list)
    follows: Sequence[Job] = ()
    service: JobService = field(init=False)
    hold: asyncio.Event = field(init=False)

    async def work(self, job: Job, notes: Notes) -> Done:
        self.seen.append(job.id)
        await notes.progress({"begun": len(self.seen)})
        await self.hold.wait()
        answer = self.answers.pop(0) if self.answers else Done(job.spec)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def announce(self, job: Job) -> Sequence[Job]:
        self.ended.append((job.id, job.state))
        return self.follows

    async def __aenter__(self) -> "Worker":
        self.hold = asyncio.Event()
        self.hold.set()
        trades = [Trade("work", self.work, self.most)]
        self.service = JobService(Ledger(open_store(str(self.folder))), self.name, trades, self.limits, self.announce)
        await self.service.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hold.set()
        await self.service.stop(5.0)

    async def submit(self, spec: bytes = b"spec", **more: object) -> Job:
        now = time.time()
        return await self.service.submit(Job(new_id(), "work", spec, now, now, **more))  # type: ignore[arg-type]

    async def end(self, job: Job) -> Job:
        return await self.service.wait(job.id, 20.0)

    async def begun(self, count: int = 1) -> None:
        while len(self.seen) < count:
            await asyncio.sleep(0.005)


def run(worker: Worker, body: Body) -> None:
    async def inside() -> None:
        async with worker:
            await body(worker)

    asyncio.run(inside())


def test_a_job_is_done_and_its_result_kept(tmp_path: Path) -> None:
    async def body(worker: Worker) -> None:
        job = await worker.end(await worker.submit(b"what to do"))
        assert (job.state, job.result, job.attempts) == (State.DONE, b"what to do", 1)
        assert worker.ended == [(job.id, State.DONE)]

    run(Worker(tmp_path), body)


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


def test_two_processes_never_do_the_same_job(tmp_path: Path) -> None:
    async def body() -> None:
        async with Worker(tmp_path, name="first") as first, Worker(tmp_path, name="second") as second:
            jobs = [await (first, second)[number % 2].submit() for number in range(60)]
            for job in jobs:
                assert (await second.end(job)).state is State.DONE
            assert sorted(first.seen + second.seen) == sorted(job.id for job in jobs)

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


class Reads:
    """A store that writes down what is called; ``instead`` of some of its calls are others."""

    def __init__(self, store: JobStore, read: list[str], **instead: Callable[..., Any]) -> None:
        self.store = store
        self.read = read
        self.instead = instead

    def __getattr__(self, name: str) -> Any:
        self.read.append(name)
        return self.instead.get(name) or getattr(self.store, name)


def test_calls_that_come_together_share_one_and_a_failure_is_only_its_own() -> None:
    batches = []

    def double(numbers: Sequence[int]) -> list[int]:
        batches.append(len(numbers))
        if 7 in numbers:
            raise ValueError("not seven")
        return [2 * number for number in numbers]

    async def body() -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as threads:
            call = Gathered(double, threads)
            told = await asyncio.gather(*map(call, range(20)), return_exceptions=True)
        assert [each for each in told if isinstance(each, int)] == [2 * number for number in range(20) if number != 7]
        assert isinstance(told[7], ValueError)

    asyncio.run(body())
    assert batches[0] == 1
    assert batches[1] == 19


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.text(max_size=9), st.integers(-(2**53), 2**53) | st.text(max_size=9) | st.none()), st.binary(max_size=99)
)
def test_an_envelope_gives_back_what_was_put_in(head: dict[str, object], body: bytes) -> None:
    head = {key.encode("utf-8", "replace").decode(): value for key, value in head.items() if not isinstance(value, str)}
    assert unpack(pack(head, body)) == (head, body)


@given(st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_what_is_no_envelope_is_refused(packed: bytes) -> None:
    try:
        head, body = unpack(packed)
    except ValueError:
        return
    assert isinstance(head, dict)
    assert packed.endswith(body)
