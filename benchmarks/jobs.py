"""How quick a store of jobs is: small jobs a second from submission to their end, and a claim among few and among many.

    python -m benchmarks.jobs                                  # SQLite, in a folder of its own under the present one
    python -m benchmarks.jobs postgresql://me@localhost/jobs   # what is in the store stays, and what is added is finished

Three lines: jobs a second in calls of 100; jobs a second from 32 threads that submit and finish one job a call; the time of a
claim, of one job, while 100 and 100,000 others wait, the two in turn.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from foretell.jobs.job import Job, Outcome, State, new_id
from foretell.jobs.store import JobStore, open_store

SMALL = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
LEASE_S = 600.0
CALL = 100
THREADS = 32
FEW, MANY = 100, 100_000


def make(kind: str) -> Job:
    now = time.time()
    return Job(new_id(), kind, SMALL, now, now, ttl_s=0)


def finish(store: JobStore, kind: str, most: int) -> int:
    """Claim and finish some; how many."""
    jobs = store.claim("bench", [kind], most, LEASE_S)
    return len(store.finish([Outcome(job.id, "bench", State.DONE, SMALL) for job in jobs])) if jobs else 0


def many_a_call(store: JobStore, count: int) -> tuple[float, float]:
    """Jobs a second, submitted and finished ``CALL`` at a time by one thread; and the CPU seconds of one."""
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(count // CALL):
        store.submit([make("bench") for _ in range(CALL)])
        assert finish(store, "bench", CALL) == CALL
    return count / (time.perf_counter() - began), (time.process_time() - cpu) / count


def one_a_call(store: JobStore, count: int) -> float:
    """Jobs a second, submitted and finished one at a time by ``THREADS`` threads, each with a kind of its own."""

    def work(kind: str) -> None:
        for _ in range(count // THREADS):
            store.submit([make(kind)])
            assert finish(store, kind, 1) == 1

    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, [f"bench-{number}" for number in range(THREADS)]))
    return count // THREADS * THREADS / (time.perf_counter() - began)


def claims(store: JobStore, rounds: int) -> tuple[float, float]:
    """The median seconds of a claim of one job while ``FEW`` and ``MANY`` wait; the claims of both take turns."""
    for kind, count in (("few", FEW), ("many", MANY)):
        for _ in range(count // CALL):
            store.submit([make(kind) for _ in range(CALL)])
    took: dict[str, list[float]] = {"few": [], "many": []}
    for _ in range(rounds):
        for kind, times in took.items():
            times.append(_timed(lambda kind=kind: store.claim("bench", [kind], 1, LEASE_S)))
    return statistics.median(took["few"]), statistics.median(took["many"])


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextmanager
def store_at(url: str | None) -> Iterator[JobStore]:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        store = open_store(url or folder)
        try:
            yield store
        finally:
            store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="where the store is; without one, SQLite")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs for each figure of a second")
    options = parser.parse_args()
    with store_at(options.url) as store:
        rate, cpu = many_a_call(store, options.jobs)
        print(f"{rate:8,.0f} jobs/s, {CALL} a call, one thread, {cpu * 1e6:.0f} us of this process's CPU a job")
        print(f"{one_a_call(store, options.jobs):8,.0f} jobs/s, one a call, {THREADS} threads")
        few, many = claims(store, FEW - 1)
        print(f"{few * 1e3:8.2f} ms a claim while {FEW} wait, {many * 1e3:.2f} ms while {MANY:,} wait: {many / few:.2f} times")
        while any(finish(store, kind, 1000) for kind in ("few", "many")) or store.delete_expired(10_000):
            pass


if __name__ == "__main__":
    main()
