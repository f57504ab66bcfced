"""What was accepted is done, whoever is killed: workers, the whole server, the process of a job over files."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import orjson

from tests.modes.http.test_jobs import ADMIN, KEY, LATER, accepted, get, result
from tests.serving import MODELS, Reply, Served, command_of, double, eventually, infer, post, serving, sleep

SLOW_ROWS = """
import os
if os.getpriority(os.PRIO_PROCESS, 0) == 19:
    print("what a model says is not the job's own word")
@foretell.model(inputs={"x": "FP32"}, outputs={"y": "FP32"})
def model(arrays):
    time.sleep(0.02)
    return {"y": arrays["x"] * 2}
"""
DEADLY = """
import os, signal
@foretell.model(inputs={"x": "FP32"}, outputs={"y": "FP32"})
def model(arrays):
    time.sleep(0.05)
    if (arrays["x"] == 13).any():
        os.kill(os.getpid(), signal.SIGSEGV)
    return {"y": arrays["x"]}
"""
ROWS = 60


@contextmanager
def keeping(folder: Path, *flags: str, workers: int = 2, names: Sequence[str] = ("double", "slow")) -> Iterator[Served]:
    """A server over the same jobs each time. A worker that gives no sign for a second loses its jobs."""
    (folder / "data").mkdir(exist_ok=True)
    models = {name: {**MODELS, "rows": SLOW_ROWS, "deadly": DEADLY}[name] for name in names}
    given = ("--jobs-state-folder", str(folder / "state"), "--jobs-paths", str(folder / "data"), "--workers", str(workers))
    quick = ("--jobs-lease-s", "1", "--jobs-poll-s", "0.05", "--timeouts-drain-grace-s", "0")
    with serving(folder, *given, *quick, *flags, models=models, environ={"FORETELL_ADMIN_KEY": KEY}) as served:
        yield served


def patiently(ask: Callable[[], Reply]) -> Reply:
    """The answer of whichever worker is there to give it."""
    while True:
        with suppress(OSError, EOFError):
            reply = ask()
            if reply.status != 503:
                return reply


def states(served: Served, paths: Sequence[str]) -> list[str]:
    return [get(served, path, ADMIN).json()["state"] for path in paths]


def children_of(pid: int) -> list[int]:
    """The processes of jobs over files that a worker has."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split() if b"workers.beneath" in command_of(int(child))]
    return found


def files_processes(served: Served) -> list[int]:
    return [child for worker in served.workers for child in children_of(worker)]


def submit_rows(served: Served, folder: Path, **more: object) -> tuple[str, Path]:
    """A job over rows that take a while, row by row; its path, and where the answers will be."""
    rows, answers = folder / "data" / "rows.ndjson", folder / "data" / "answers.ndjson"
    rows.write_text("".join(f'{{"x":{number}}}\n' for number in range(ROWS)))
    order = {"model": "rows", "input": str(rows), "output": str(answers), "batch_rows": 1, **more}
    reply = served.ask(post("/jobs", orjson.dumps(order), ADMIN))
    assert reply.status == 202, reply
    return f"/jobs/{reply.json()['id']}", answers


def answers_of(path: Path) -> list[float]:
    return [orjson.loads(line)["y"] for line in path.read_bytes().splitlines()]


def test_a_worker_that_is_killed_loses_no_request(tmp_path: Path) -> None:
    with keeping(tmp_path) as served:
        paths = [accepted(served.ask(sleep(0.05, LATER))) for _ in range(40)]
        os.kill(served.workers[0], signal.SIGKILL)
        paths += [accepted(served.ask(double(LATER, x=number))) for number in range(40)]
        answers = [result(served, path) for path in paths]
        assert {answer.status for answer in answers} == {200}
        assert [answer.json()["outputs"][0]["data"][0] for answer in answers[40:]] == [2 * number + 1 for number in range(40)]


def test_a_request_that_crashes_its_worker_costs_no_other_its_answer(tmp_path: Path) -> None:
    with keeping(tmp_path, names=("deadly",)) as served:
        requests = [infer("deadly", "x", [number], LATER, f"idempotency-key: {number}", shape=[1]) for number in range(20)]
        with ThreadPoolExecutor(20) as threads:  # at one moment, so that they are computed together
            paths = list(threads.map(lambda request: accepted(patiently(lambda: served.ask(request))), requests))
        answers = [patiently(partial(result, served, path)) for path in paths]
        assert [answer.json().get("code") for answer in answers] == [*[None] * 13, "refused_request", *[None] * 6]


def test_a_server_that_is_killed_and_started_again_loses_no_request(tmp_path: Path) -> None:
    with keeping(tmp_path) as served:
        paths = [accepted(served.ask(sleep(0.1, LATER))) for _ in range(20)]
        for pid in (served.process.pid, *served.workers):
            os.kill(pid, signal.SIGKILL)
    with keeping(tmp_path) as served:
        assert {result(served, path).status for path in paths} == {200}


def test_a_server_that_is_stopped_gives_back_what_it_cannot_end(tmp_path: Path) -> None:
    with keeping(tmp_path, "--timeouts-shutdown-s", "0.5", names=("rows", "slow")) as served:
        quick = [accepted(served.ask(sleep(0.1, LATER))) for _ in range(4)]
        long = accepted(served.ask(sleep(2, LATER)))
        job, _ = submit_rows(served, tmp_path)
        assert eventually(lambda: files_processes(served) and "running" in states(served, [long]), 20)
        (child,) = files_processes(served)
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(20)
        assert not Path(f"/proc/{child}").exists()
    with keeping(tmp_path, names=("rows", "slow")) as served:
        assert {result(served, path).status for path in (*quick, long)} == {200}
        assert result(served, job, ADMIN).json()["rows"] == ROWS
        assert get(served, job, ADMIN).json()["attempts"] == 1  # what is given back was not tried


def test_a_job_over_files_runs_beneath_all_else_and_ends_with_its_worker(tmp_path: Path) -> None:
    with keeping(tmp_path, names=("rows",)) as served:
        job, answers = submit_rows(served, tmp_path)
        assert eventually(lambda: files_processes(served), 20)
        (child,) = files_processes(served)
        assert eventually(lambda: os.sched_getscheduler(child) == os.SCHED_IDLE)
        assert len(os.sched_getaffinity(child)) == (len(os.sched_getaffinity(0)) + 1) // 2
        assert os.getpriority(os.PRIO_PROCESS, child) == 19
        assert eventually(lambda: "progress" in get(served, job, ADMIN).json(), 20)
        (worker,) = (worker for worker in served.workers if children_of(worker))
        os.kill(worker, signal.SIGKILL)
        assert eventually(lambda: not Path(f"/proc/{child}").exists(), 30)  # it gives way to all, in ending too
        assert result(served, job, ADMIN, ADMIN).json()["rows"] == ROWS
        assert answers_of(answers) == [2.0 * number for number in range(ROWS)]
        assert get(served, job, ADMIN).json()["attempts"] == 2


def test_a_job_over_files_whose_process_is_killed_is_begun_again(tmp_path: Path) -> None:
    with keeping(tmp_path, workers=1, names=("rows",)) as served:
        job, answers = submit_rows(served, tmp_path)
        assert eventually(lambda: files_processes(served), 20)
        os.kill(files_processes(served)[0], signal.SIGKILL)
        assert result(served, job, ADMIN).json()["rows"] == ROWS
        assert answers_of(answers) == [2.0 * number for number in range(ROWS)]


def test_a_job_over_files_that_is_cancelled_leaves_no_process_and_no_half_file(tmp_path: Path) -> None:
    with keeping(tmp_path, names=("rows",)) as served:
        job, answers = submit_rows(served, tmp_path)
        assert eventually(lambda: "progress" in get(served, job, ADMIN).json(), 20)
        (child,) = files_processes(served)
        assert get(served, job, ADMIN, verb="DELETE").status == 200
        assert eventually(lambda: get(served, job, ADMIN).json()["state"] == "cancelled", 10)
        assert not Path(f"/proc/{child}").exists()
        assert not answers.exists()


def test_a_request_that_ends_its_worker_each_time_is_given_up(tmp_path: Path) -> None:
    deadly = "import os\n" + MODELS["double"].replace('raise RuntimeError("the secret is in /etc/shadow")', "os._exit(9)")
    flags = ("--jobs-state-folder", str(tmp_path / "state"), "--jobs-lease-s", "0.5", "--jobs-poll-s", "0.05")
    with serving(tmp_path, *flags, "--supervisor-max-crashes", "9", models={"double": deadly}) as served:
        path = accepted(served.ask(double(LATER, x=-666.0)))

        def state() -> str:
            try:
                return str(get(served, path).json()["state"])
            except (OSError, EOFError):
                return "unknown"

        assert eventually(lambda: state() not in ("unknown", "waiting", "running"), 30)
        assert served.ask(double()).status == 200
