"""Workers are killed in the middle, at random moments: every job is done exactly once, and few are begun twice."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from foretell.jobs.job import Job, State, new_id
from foretell.jobs.store import open_store
from tests.jobs.crashing_worker import CLAIMED_AT_ONCE
from tests.serving import eventually
from tests.soak import rounds

LEASE_S = 2.0
WORKERS = 3


class Workshop:
    """Worker processes at one store, and the book in which they write what they did."""

    def __init__(self, url: str, book: Path) -> None:
        self.url = url
        self.book = book
        self.names = itertools.count(1)
        self.workers = [self.start() for _ in range(WORKERS)]

    def start(self) -> subprocess.Popen[bytes]:
        what = [self.url, f"worker-{next(self.names)}", str(self.book), str(LEASE_S)]
        return subprocess.Popen([sys.executable, "-m", "tests.jobs.crashing_worker", *what])

    def kill_one(self, dice: random.Random) -> None:
        place = dice.randrange(WORKERS)
        os.kill(self.workers[place].pid, signal.SIGKILL)
        self.workers[place].wait()
        self.workers[place] = self.start()

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()

    def told(self, word: str) -> Counter[str]:
        """How often each job has that word in the book. What a killed worker could not write whole is not counted."""
        text = self.book.read_text() if self.book.exists() else ""
        pairs = [line.split(" ") for line in text.splitlines() if line.count(" ") == 1]
        return Counter(id for said, id in pairs if said == word)


def kill_in_the_middle(url: str, book: Path, *, jobs: int, kills: int) -> None:
    """Have jobs done by workers of which ``kills`` die; check that nothing is lost and nothing done twice."""
    store, dice, now = open_store(url), random.Random(book.name), time.time()
    ids = [
        job.id for job in store.submit([Job(new_id(), "request", b" did it", now, now, most_attempts=99) for _ in range(jobs)])
    ]
    shop = Workshop(url, book)
    try:
        for begun in sorted(dice.sample(range(1, jobs), kills)):
            assert eventually(lambda begun=begun: len(shop.told("begun")) >= begun, 60)
            shop.kill_one(dice)
        assert eventually(lambda: store.counts()[State.DONE] == jobs, 60)
        assert [worker.wait(30) for worker in shop.workers] == [0] * WORKERS
    finally:
        shop.close()
    done = [store.get(id) for id in ids]
    store.close()
    assert [job.state for job in done if job] == [State.DONE] * jobs
    assert all(job and (job.result or b"").endswith(b" did it") for job in done)
    assert set(shop.told("done").values()) == {1}
    retried = sum(job.attempts - 1 for job in done if job)
    assert retried <= kills * CLAIMED_AT_ONCE
    assert shop.told("begun").total() <= jobs + retried


def test_killed_workers_lose_no_job_and_do_none_twice(url: str, tmp_path: Path) -> None:
    kill_in_the_middle(url, tmp_path / "book", jobs=rounds(200, 2000), kills=rounds(5, 20))
