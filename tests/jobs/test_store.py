"""What every store of jobs must do: one suite, run unchanged against each."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from foretell.errors import Invalid
from foretell.jobs.job import DAY_S, ENDED, LOW, URGENT, Failure, Job, Outcome, Renewal, State, new_id
from foretell.jobs.store import LOG_LINES, JobStore, open_store
from foretell.testing import FakeClock

LEASE_S = 30.0
OOPS = Failure("model_failed", "the model raised")
Make = Callable[..., Job]


@pytest.fixture
def make(clock: FakeClock) -> Make:
    """Makes a job of now."""

    def job(**options: Any) -> Job:
        now = clock()
        return Job(**{"id": new_id(), "kind": "request", "spec": b"do", "created_at": now, "due_at": now, **options})

    return job


def take(store: JobStore, worker: str = "anna", most: int = 10, kinds: tuple[str, ...] = ("request", "files")) -> list[str]:
    return [job.id for job in store.claim(worker, kinds, most, LEASE_S)]


def end(store: JobStore, id: str, worker: str = "anna", result: bytes = b"done") -> bool:
    return id in store.finish([Outcome(id, worker, State.DONE, result)])


def there(store: JobStore, id: str) -> Job:
    job = store.get(id)
    assert job is not None
    return job


def test_a_job_is_kept_as_it_was_submitted(store: JobStore, make: Make) -> None:
    job = make(
        spec=b"\x00\xff body",
        owner="Käthe",
        key="k 1",
        fingerprint="f",
        key_until=1.5e9 + 1 / 3,
        priority=LOW,
        ttl_s=0.1,
        due_at=1_800_000_000.123456,
        most_attempts=7,
    )
    assert store.submit([job]) == [job]
    assert store.get(job.id) == job


def test_a_job_goes_from_waiting_over_running_to_done(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make()])
    assert there(store, job.id).state is State.WAITING
    clock.now += 1
    (running,) = store.claim("anna", ["request"], 1, LEASE_S)
    assert running == replace(
        job, state=State.RUNNING, worker="anna", attempts=1, started_at=clock.now, lease_until=clock.now + LEASE_S
    )
    assert there(store, job.id) == running
    clock.now += 1
    assert end(store, job.id, result=b"\x00 42")
    assert there(store, job.id) == replace(
        running,
        state=State.DONE,
        worker=None,
        lease_until=None,
        finished_at=clock.now,
        expires_at=clock.now + DAY_S,
        result=b"\x00 42",
    )


def test_a_failed_job_says_why(store: JobStore, make: Make) -> None:
    (job,) = store.submit([make()])
    take(store)
    assert store.finish([Outcome(job.id, "anna", State.FAILED, error=OOPS)]) == {job.id}
    failed = there(store, job.id)
    assert (failed.state, failed.error, failed.result) == (State.FAILED, OOPS, None)


def test_an_empty_result_is_a_result(store: JobStore, make: Make) -> None:
    (job,) = store.submit([make(spec=b"")])
    take(store)
    end(store, job.id, result=b"")
    assert (there(store, job.id).spec, there(store, job.id).result) == (b"", b"")


def test_large_jobs_and_results_come_back_whole(store: JobStore, make: Make) -> None:
    (job,) = store.submit([make(spec=bytes(range(256)) * 20_000)])
    (running,) = store.claim("anna", ["request"], 1, LEASE_S)
    end(store, job.id, result=running.spec[::-1])
    assert there(store, job.id).result == job.spec[::-1]


def test_the_urgent_the_due_and_the_older_come_first(store: JobStore, make: Make, clock: FakeClock) -> None:
    low, late, early, urgent, files = store.submit(
        [
            make(priority=LOW, due_at=clock() - 9),
            make(due_at=clock() - 1),
            make(due_at=clock() - 2),
            make(priority=URGENT),
            make(kind="files", due_at=clock() - 1.5),
        ]
    )
    same = store.submit([make(priority=URGENT) for _ in range(5)])
    first_come = [job.id for job in (urgent, *same)]
    assert take(store, most=2) == first_come[:2]
    assert take(store) == [*first_come[2:], early.id, files.id, late.id, low.id]


def test_a_worker_gets_only_the_kinds_it_asks_for(store: JobStore, make: Make) -> None:
    request, files = store.submit([make(), make(kind="files")])
    assert take(store, kinds=("files",)) == [files.id]
    assert take(store, kinds=()) == []
    assert take(store, kinds=("request",)) == [request.id]


def test_a_job_is_not_begun_before_it_is_due(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make(due_at=clock() + 5, priority=URGENT)])
    assert take(store) == []
    clock.now += 5
    assert take(store) == [job.id]


def test_no_job_is_given_to_two(store: JobStore, make: Make) -> None:
    store.submit([make()])
    assert len(take(store, "anna")) == 1
    assert take(store, "bert") == []


def test_a_lapsed_lease_is_taken_over(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make()])
    take(store, "anna")
    clock.now += LEASE_S - 0.001
    assert take(store, "bert") == []
    clock.now += 0.001
    assert take(store, "bert") == [job.id]
    assert (there(store, job.id).worker, there(store, job.id).attempts) == ("bert", 2)


def test_only_who_holds_the_lease_ends_a_job(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make()])
    take(store, "anna")
    assert not end(store, job.id, "bert")
    clock.now += LEASE_S
    take(store, "bert")
    assert not end(store, job.id, "anna", b"late")
    assert end(store, job.id, "bert", b"right")
    assert not end(store, job.id, "bert", b"again")
    assert there(store, job.id).result == b"right"


def test_a_slow_worker_may_end_what_nobody_took_over(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make()])
    take(store)
    clock.now += 10 * LEASE_S
    assert end(store, job.id)


def test_a_renewed_lease_holds(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make()])
    take(store, "anna")
    clock.now += LEASE_S - 1
    assert store.renew([job.id], "anna", LEASE_S) == Renewal(frozenset([job.id]))
    clock.now += LEASE_S - 1
    assert take(store, "bert") == []
    assert there(store, job.id).lease_until == clock.now + 1


def test_nobody_renews_what_another_holds(store: JobStore, make: Make, clock: FakeClock) -> None:
    kept, lost, done = store.submit([make() for _ in range(3)])
    take(store, "anna")
    end(store, done.id)
    clock.now += LEASE_S - 1
    store.renew([kept.id], "anna", LEASE_S)
    clock.now += 1
    assert take(store, "bert") == [lost.id]
    assert store.renew([kept.id, lost.id, done.id, "nothing"], "anna", LEASE_S) == Renewal(frozenset([kept.id]))
    assert store.renew([], "anna", LEASE_S) == Renewal()


def test_a_job_whose_workers_die_is_given_up(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make(most_attempts=2)])
    for _ in range(2):
        assert take(store) == [job.id]
        clock.now += LEASE_S
    assert take(store) == []
    failed = there(store, job.id)
    assert failed.error is not None
    assert (failed.state, failed.error.code, failed.attempts, failed.worker) == (State.FAILED, "job_abandoned", 2, None)
    assert failed.expires_at == clock.now + DAY_S


def test_a_job_that_is_put_back_waits_and_counts_its_attempts(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make(most_attempts=2)])
    take(store)
    waiting = store.put_back(job.id, "anna", clock() + 5, OOPS)
    assert waiting is not None
    assert (waiting.state, waiting.worker, waiting.error, waiting.attempts) == (State.WAITING, None, OOPS, 1)
    assert take(store) == []
    clock.now += 5
    assert take(store) == [job.id]
    failed = store.put_back(job.id, "anna", clock() + 5, OOPS)
    assert failed is not None
    assert (failed.state, failed.error, failed.finished_at) == (State.FAILED, OOPS, clock.now)


def test_a_job_that_is_given_back_untouched_loses_no_attempt(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make(most_attempts=1)])
    for _ in range(3):
        assert take(store) == [job.id]
        assert there(store, job.id).attempts == 1
        assert store.put_back(job.id, "anna", clock()) == replace(job, spec=b"", started_at=clock.now)


def test_nobody_puts_back_what_another_holds(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make()])
    assert store.put_back(job.id, "anna", clock()) is None
    take(store, "anna")
    assert store.put_back(job.id, "bert", clock()) is None
    assert store.put_back("nothing", "anna", clock()) is None
    assert there(store, job.id).worker == "anna"


def test_a_done_job_forgets_the_error_of_an_earlier_attempt(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make()])
    take(store)
    store.put_back(job.id, "anna", clock(), OOPS)
    take(store)
    end(store, job.id)
    assert there(store, job.id).error is None


def test_a_waiting_job_is_cancelled_at_once(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make(ttl_s=9)])
    cancelled = store.cancel(job.id)
    assert cancelled == replace(job, spec=b"", state=State.CANCELLED, finished_at=clock.now, expires_at=clock.now + 9)
    assert take(store) == []
    assert store.cancel(job.id) == cancelled
    assert store.cancel("nothing") is None


def test_the_worker_of_a_running_job_is_told_to_cancel_it(store: JobStore, make: Make) -> None:
    job, other = store.submit([make(), make()])
    take(store)
    asked = store.cancel(job.id)
    assert asked is not None
    assert (asked.state, asked.cancel_wanted) == (State.RUNNING, True)
    assert store.renew([job.id, other.id], "anna", LEASE_S) == Renewal(frozenset([job.id, other.id]), frozenset([job.id]))
    assert store.finish([Outcome(job.id, "anna", State.CANCELLED)]) == {job.id}
    assert there(store, job.id).state is State.CANCELLED


def test_a_job_that_is_done_before_its_cancelling_is_noticed_is_done(store: JobStore, make: Make) -> None:
    (job,) = store.submit([make()])
    take(store)
    store.cancel(job.id)
    assert end(store, job.id)
    assert there(store, job.id).state is State.DONE


def test_a_job_to_be_cancelled_does_not_run_again(store: JobStore, make: Make, clock: FakeClock) -> None:
    put_back, lapsed = store.submit([make(), make()])
    take(store)
    store.cancel(put_back.id)
    store.cancel(lapsed.id)
    ended = store.put_back(put_back.id, "anna", clock(), OOPS)
    assert ended is not None
    assert (ended.state, ended.error) == (State.CANCELLED, None)
    clock.now += LEASE_S
    assert take(store, "bert") == []
    assert there(store, lapsed.id).state is State.CANCELLED


def test_the_same_key_gives_the_same_job(store: JobStore, make: Make) -> None:
    (job,) = store.submit([make(key="k", owner="eva", fingerprint="1")])
    again = make(key="k", owner="eva", fingerprint="1", spec=b"ignored")
    assert store.submit([again]) == [job]
    assert store.get(again.id) is None
    take(store)
    end(store, job.id)
    (done,) = store.submit([make(key="k", owner="eva", fingerprint="1")])
    assert (done.id, done.result) == (job.id, b"done")


def test_a_key_is_its_owners(store: JobStore, make: Make) -> None:
    first, second, third = store.submit([make(key="k", owner="eva"), make(key="k", owner="max"), make(key="k")])
    assert len({first.id, second.id, third.id}) == 3
    assert len(take(store)) == 3


def test_the_same_key_within_one_call_gives_one_job(store: JobStore, make: Make) -> None:
    first, second = store.submit([make(key="k"), make(key="k")])
    assert first.id == second.id
    assert len(take(store)) == 1


def test_a_key_that_comes_again_for_something_else_is_refused_with_all_of_its_call(store: JobStore, make: Make) -> None:
    store.submit([make(key="k", fingerprint="1")])
    other = make()
    with pytest.raises(Invalid, match="'k'") as refusal:
        store.submit([other, make(key="k", fingerprint="2")])
    assert refusal.value.code == "key_reused"
    assert store.get(other.id) is None
    assert len(take(store)) == 1


def test_a_submission_that_is_repeated_changes_nothing(store: JobStore, make: Make) -> None:
    (job,) = store.submit([make()])
    take(store)
    (again,) = store.submit([job])
    assert again.state is State.RUNNING
    assert take(store, "bert") == []


def test_a_result_is_kept_for_its_time_to_live(store: JobStore, make: Make, clock: FakeClock) -> None:
    short, long = store.submit([make(ttl_s=5, key="k"), make(ttl_s=50)])
    take(store)
    for job in (short, long):
        store.log(job.id, "hello")
        end(store, job.id)
    clock.now += 4.9
    assert store.delete_expired() == 0
    clock.now += 0.1
    assert store.delete_expired() == 1
    assert (store.get(short.id), list(store.read_log(short.id))) == (None, [])
    assert there(store, long.id).result == b"done"
    assert store.submit([make(key="k", fingerprint="other")])[0].state is State.WAITING


def test_what_waits_or_runs_never_expires(store: JobStore, make: Make, clock: FakeClock) -> None:
    waiting, running = store.submit([make(ttl_s=1), make(ttl_s=1, priority=URGENT)])
    take(store, most=1)
    clock.now += 1e6
    assert store.delete_expired() == 0
    assert {there(store, waiting.id).state, there(store, running.id).state} == {State.WAITING, State.RUNNING}


def test_expired_jobs_are_deleted_a_few_at_a_time(store: JobStore, make: Make, clock: FakeClock) -> None:
    store.submit([make(ttl_s=0) for _ in range(5)])
    store.finish([Outcome(id, "anna", State.DONE) for id in take(store)])
    assert [store.delete_expired(2) for _ in range(4)] == [2, 2, 1, 0]


def test_a_key_may_be_remembered_longer_than_its_job(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make(ttl_s=5, key="tick", key_until=clock() + 100)])
    take(store)
    end(store, job.id)
    clock.now += 5
    assert store.delete_expired() == 1
    assert (store.get(job.id), list(store.list()), sum(store.counts().values())) == (None, [], 0)
    (left,) = store.submit([make(key="tick")])
    assert (left.id, left.state, left.spec, left.result) == (job.id, State.EXPIRED, b"", None)
    assert take(store) == []
    assert store.cancel(job.id) is None
    clock.now += 95
    assert store.delete_expired() == 1
    assert store.submit([make(key="tick")])[0].state is State.WAITING


def test_progress_is_told_by_who_holds_the_job(store: JobStore, make: Make) -> None:
    (job,) = store.submit([make()])
    assert not store.report(job.id, "anna", b"{}")
    take(store)
    assert store.report(job.id, "anna", b'{"rows":7}')
    assert not store.report(job.id, "bert", b'{"rows":8}')
    assert not store.report("nothing", "anna", b"{}")
    assert there(store, job.id).progress == b'{"rows":7}'


def test_a_list_goes_from_the_newest_back_page_by_page(store: JobStore, make: Make) -> None:
    ids = [job.id for job in store.submit([make(spec=b"large") for _ in range(5)])][::-1]
    first = store.list(most=2)
    second = store.list(most=2, after=first[-1].id)
    last = store.list(most=2, after=second[-1].id)
    assert [job.id for page in (first, second, last) for job in page] == ids
    assert store.list(after=ids[-1]) == []
    assert {job.spec for job in first} == {b""}


def test_a_list_may_be_of_one_state(store: JobStore, make: Make) -> None:
    ids = [job.id for job in store.submit([make() for _ in range(4)])]
    assert take(store, most=2) == ids[:2]
    end(store, ids[0])
    assert [job.id for job in store.list(State.WAITING)] == [ids[3], ids[2]]
    assert [job.id for job in store.list(State.WAITING, after=ids[3])] == [ids[2]]
    assert [job.id for job in store.list(State.RUNNING)] == [ids[1]]
    assert [job.result for job in store.list(State.DONE)] == [None]
    assert store.list(State.FAILED) == []


def test_jobs_are_counted_by_state(store: JobStore, make: Make) -> None:
    store.submit([make() for _ in range(6)])
    done, failed, cancelled, _ = take(store, most=4)
    end(store, done)
    store.finish([Outcome(failed, "anna", State.FAILED, error=OOPS), Outcome(cancelled, "anna", State.CANCELLED)])
    assert store.counts() == {State.WAITING: 2, State.RUNNING: 1, **dict.fromkeys(ENDED, 1)}


def test_a_log_keeps_its_newest_lines_in_order(store: JobStore, make: Make, clock: FakeClock) -> None:
    (job,) = store.submit([make()])
    assert list(store.read_log(job.id)) == []
    for number in range(LOG_LINES + 3):
        clock.now += 1
        store.log(job.id, f"line {number} \N{SNOWMAN}")
    lines = store.read_log(job.id)
    assert [line.text for line in lines] == [f"line {number} \N{SNOWMAN}" for number in range(3, LOG_LINES + 3)]
    assert lines[-1].at == clock.now
    store.log("nothing", "of no job")
    assert list(store.read_log("nothing")) == []


def test_jobs_outlive_the_process(url: str, clock: FakeClock, make: Make) -> None:
    first = open_store(url, clock)
    (job,) = first.submit([make()])
    take(first)
    first.close()
    second = open_store(url, clock)
    assert there(second, job.id).worker == "anna"
    assert end(second, job.id)
    second.close()


def test_many_threads_share_a_store(store: JobStore, make: Make) -> None:
    def submit_and_work(name: int) -> list[str]:
        mine = store.submit([make() for _ in range(5)]) and [job for _ in range(5) for job in store.submit([make()])]
        assert len(mine) == 5
        begin.wait(10)
        done = []
        while ids := take(store, f"worker {name}", most=3):
            done += sorted(store.finish([Outcome(id, f"worker {name}", State.DONE, b"x") for id in ids]))
        return done

    begin = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        done = [id for ids in pool.map(submit_and_work, range(8)) for id in ids]
    left = take(store, "last", most=100)  # who claims at the same moment may be told that nothing is left
    assert len(done) + len(left) == len({*done, *left}) == 80
