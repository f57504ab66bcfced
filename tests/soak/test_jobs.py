"""Durable work, for long: workers and whole servers are killed at random moments."""

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.jobs.test_survival import ROWS, answers_of, files_processes, keeping, patiently, submit_rows
from tests.modes.http.test_jobs import ADMIN, LATER, accepted, get, result
from tests.serving import Served, double, sleep
from tests.soak import rounds


def submitted(served: Served, number: int) -> str:
    """The path of a job. Where a worker has just been killed, or none is there yet, the same request is sent again."""
    request = double(LATER, f"idempotency-key: {number}", x=float(number)) if number % 2 else sleep(0.02, LATER)
    return accepted(patiently(lambda: served.ask(request)))


def kill_one(processes: Sequence[int], chance: random.Random) -> None:
    with suppress(ProcessLookupError):
        os.kill(chance.choice(list(processes)), signal.SIGKILL)


def test_no_accepted_request_is_lost_however_often_workers_are_killed(tmp_path: Path) -> None:
    chance = random.Random(8)
    with keeping(tmp_path, "--supervisor-max-crashes", "1000", "--jobs-attempts", "100") as served:
        paths = []
        for number in range(rounds(3, 20)):
            paths += [submitted(served, 100 * number + each) for each in range(60)]
            kill_one(served.workers, chance)
        assert {result(served, path).status for path in paths} == {200}


def test_no_accepted_request_is_lost_however_often_the_server_is_killed(tmp_path: Path) -> None:
    chance, paths = random.Random(9), []
    for number in range(rounds(2, 20)):
        with keeping(tmp_path, "--jobs-attempts", "100") as served:
            paths += [submitted(served, 100 * number + each) for each in range(40)]
            time.sleep(chance.uniform(0, 0.5))  # the moment is what is drawn
            for pid in (served.process.pid, *served.workers):
                kill_one([pid], chance)
    with keeping(tmp_path, "--jobs-attempts", "100") as served:
        assert {result(served, path).status for path in paths} == {200}


def test_every_row_of_a_job_is_answered_once_whenever_its_worker_or_process_is_killed(tmp_path: Path) -> None:
    chance = random.Random(10)
    with keeping(tmp_path, "--supervisor-max-crashes", "1000", "--jobs-attempts", "100", names=("rows",)) as served:
        for number in range(rounds(2, 20)):
            job, answers = submit_rows(served, tmp_path, restart=True)
            for _ in range(2):
                time.sleep(chance.uniform(0, 2))
                kill_one(files_processes(served) or served.workers if number % 2 else served.workers, chance)
            assert result(served, job, ADMIN).json()["rows"] == ROWS
            assert answers_of(answers) == [2.0 * row for row in range(ROWS)]
            assert get(served, job, ADMIN).json()["state"] == "done"
