"""A worker process for tests that kill it: ``python -m tests.jobs.crashing_worker URL NAME BOOK LEASE_S``.

It claims and finishes jobs until none is left, and writes what it did into a book that all workers share, line by line:
``begun ID`` before it works on a job, ``done ID`` after the store took its end.
"""

import os
import sys
import time

from foretell.jobs.job import Outcome, State
from foretell.jobs.store import open_store

CLAIMED_AT_ONCE = 3


def main() -> None:
    url, name, book, lease_s = sys.argv[1:]
    store = open_store(url)
    lines = os.open(book, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while (counts := store.counts())[State.WAITING] + counts[State.RUNNING]:
        jobs = store.claim(name, ["request"], CLAIMED_AT_ONCE, float(lease_s))
        for job in jobs:
            os.write(lines, f"begun {job.id}\n".encode())
            time.sleep(0.001)  # a job that takes no time is never killed in the middle
        for id in store.finish([Outcome(job.id, name, State.DONE, name.encode() + job.spec) for job in jobs]):
            os.write(lines, f"done {id}\n".encode())
        if not jobs:
            time.sleep(0.01)  # others hold the rest
    store.close()


if __name__ == "__main__":
    main()
