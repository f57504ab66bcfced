"""Real servers of several processes: killed, stopped, hung, worn out and told to end, while they are asked."""

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from foretell.workers.crashes import oom_kills
from tests.serving import MODELS, Served, Wire, command_of, double, eventually, free_port, infer, post, serving, sleep

READY = b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
DOUBLE = {"double": MODELS["double"]}
IN_FLIGHT = b'foretell_in_flight_requests{model="slow",version="1"} 1.0'
QUICK_STOP = ("--timeouts-drain-grace-s", "0")
DEADLY = """
import os, signal
@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]"})
def model(arrays):
    if (arrays["x"] == -9).any():
        os.kill(os.getpid(), signal.SIGSEGV)
    if (arrays["x"] == -8).any():
        time.sleep(100)
    return {"y": arrays["x"] * 2 + 1}
"""


class Load:
    """Clients that each ask again and again on a connection of their own, and open another when it is closed.

    ``failed`` has what was not a good answer; that a connection which was kept idle is closed is no failure.
    """

    def __init__(self, port: int, clients: int = 4, request: bytes | None = None) -> None:
        self.port = port
        self.request = request or double()
        self.good = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                with Wire(self.port) as wire:
                    self._ask_on(wire)
            except OSError as error:
                self.failed.append(repr(error))

    def _ask_on(self, wire: Wire) -> None:
        while not self._stop.is_set():
            try:
                answer = wire.ask(self.request)
            except (EOFError, OSError) as error:
                self.failed.append(repr(error))
                return
            if answer.status == 200:
                self.good += 1
            else:
                self.failed.append(f"{answer.status} {answer.body[:100]!r}")
            if answer.header(b"connection") == b"close":
                return
            time.sleep(0.001)  # leaves the processors of a small machine to the server


def asks_good(served: Served, since: Load, more: int = 50) -> bool:
    """Whether that many more good answers come."""
    before = since.good
    return eventually(lambda: since.good >= before + more, within_s=20)


def shared_segments() -> set[str]:
    """Names of shared memory that Python or we could have made."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(("psm_", "foretell"))}


def is_gone(pid: int) -> bool:
    return b"foretell.workers.worker" not in command_of(pid)


def ready_workers(served: Served, count: int) -> bool:
    """Whether so many workers answer; they are asked over many connections."""
    text = served.get("/metrics").body.decode()
    match = re.search(r'^foretell_workers\{state="ready"\} (\S+)', text, re.M)
    return match is not None and float(match[1]) == count


def test_a_worker_that_is_killed_is_replaced_while_the_others_go_on(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", models=DOUBLE) as served:
        first, second = served.workers
        with Load(served.port) as load:
            assert asks_good(served, load)
            os.kill(first, signal.SIGKILL)
            assert eventually(lambda: len(served.workers) == 2 and first not in served.workers, within_s=10)
            assert asks_good(served, load)
            assert eventually(lambda: ready_workers(served, 2), within_s=20)
        assert second in served.workers
        assert len(load.failed) <= 4  # those that the killed worker had in hand
        assert "was ended by SIGKILL" in served.log.read_text()
        answers = served.count("double", "ok")
        assert load.good <= answers <= load.good + 4


def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--supervisor-hang-s", "1", models=DOUBLE) as served:
        hung = served.workers[0]
        os.kill(hung, signal.SIGSTOP)
        assert eventually(lambda: is_gone(hung), within_s=10)
        assert eventually(lambda: ready_workers(served, 2), within_s=20)
        assert eventually(lambda: "no sign of life" in served.log.read_text())


def test_the_log_tells_where_a_worker_hung(tmp_path: Path) -> None:
    flags = ("--supervisor-hang-s", "1", "--engine-inline-below-us", "1000000")
    with serving(tmp_path, *flags, models={"deadly": DEADLY}) as served, served.wire() as wire:
        hung = served.workers[0]
        wire.send(post("/v2/models/deadly/infer", _body(-8.0)))
        assert eventually(lambda: is_gone(hung), within_s=10)
        assert eventually(lambda: served.get("/v2/health/ready").status == 200, within_s=20)
        log = served.log.read_text()
        assert "Timeout" in log
        assert "deadly.py" in log


def test_a_supervisor_that_was_stopped_does_not_take_its_workers_for_hung(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--supervisor-hang-s", "1", models=DOUBLE) as served:
        before = served.workers
        for pid in (served.process.pid, *before):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2.5)  # the time in which nobody is alive has to pass: it is what is tested
        for pid in (served.process.pid, *before):
            os.kill(pid, signal.SIGCONT)
        assert served.ask(double()).status == 200
        time.sleep(1.0)  # and so has one in which it looks again
        assert served.workers == before


def test_a_worker_that_crashes_again_and_again_is_given_up_and_the_reason_told(tmp_path: Path) -> None:
    crashing = "import os\nos._exit(7)\n"
    flags = ("--http-port", str(free_port()), "--supervisor-max-crashes", "2")
    (tmp_path / "bad.py").write_text(crashing)
    line = [sys.executable, "-m", "foretell", "serve", f"{tmp_path}/bad.py:model", *flags, "--workers", "2"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "worker 0 ended with exit code 7: FAILED" in done.stderr
    assert "every worker crashed 2 times within a minute" in done.stderr
    assert "[workers_failed]" in done.stderr
    assert done.stdout == ""


def test_a_slot_that_failed_leaves_the_others_serving(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--supervisor-max-crashes", "1", models=DOUBLE) as served:
        os.kill(served.workers[0], signal.SIGKILL)
        assert eventually(lambda: "FAILED" in served.log.read_text(), within_s=10)
        assert eventually(lambda: served.ask(double()).status == 200)
        assert len(served.workers) == 1
        assert 'foretell_workers{state="failed"} 1.0' in served.get("/metrics").body.decode()


def test_a_request_that_was_in_flight_at_two_crashes_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, models={"deadly": DEADLY}) as served:
        deadly = post("/v2/models/deadly/infer", _body(-9.0))
        for _ in range(2):
            with pytest.raises((EOFError, ConnectionError)):
                served.ask(deadly)
            assert eventually(lambda: _status(served) == 200, within_s=20)
        answer = served.ask(deadly)
        assert answer.code == "refused_request"
        assert served.ask(post("/v2/models/deadly/infer", _body(1.0))).status == 200


@pytest.mark.skipif(oom_kills() is None, reason="this kernel does not tell of those that it kills")
def test_a_request_that_was_in_flight_when_somebody_killed_its_worker_twice_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        for _ in range(2):
            with served.wire() as wire:
                wire.send(sleep(0.5))
                assert eventually(lambda: IN_FLIGHT in served.get("/metrics").body)
                os.kill(served.workers[0], signal.SIGKILL)
                with pytest.raises((EOFError, ConnectionError)):
                    wire.read()
            assert eventually(lambda: _status(served) == 200, within_s=20)
        assert served.ask(sleep(0.5)).status == 200


def test_killing_the_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    before = shared_segments()
    with serving(tmp_path, "--workers", "2") as served, served.wire() as wire:
        workers = served.workers
        wire.send(sleep(1.0))
        assert eventually(lambda: IN_FLIGHT in served.get("/metrics").body)
        served.process.kill()
        assert wire.read().status == 200  # what is in flight is answered
        assert eventually(lambda: all(map(is_gone, workers)), within_s=10)
        assert shared_segments() <= before
        with socket.socket() as late:
            assert late.connect_ex(("127.0.0.1", served.port)) == errno.ECONNREFUSED


def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    """The clients do not honour readiness: each answer of a server that stops says that the connection is closed."""
    with serving(tmp_path, "--workers", "2", "--timeouts-drain-grace-s", "1", models=DOUBLE) as served:
        with Load(served.port, clients=8) as load:
            assert asks_good(served, load)
            served.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: served.ask(READY).status == 503, within_s=1)
            before = time.monotonic()
            assert asks_good(served, load, more=20)
            assert time.monotonic() - before < 1
        assert load.failed == []
        assert served.process.wait(10) == 0


def test_connections_that_wait_when_the_socket_closes_are_answered(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine-inline-below-us", "10000000", *QUICK_STOP) as served, served.wire() as busy:
        busy.send(sleep(0.5))  # runs in the event loop, so that nobody accepts
        time.sleep(0.1)  # until it does
        waiting = [served.wire() for _ in range(5)]
        for wire in waiting:
            wire.send(double())
        served.process.send_signal(signal.SIGTERM)
        answers = [wire.read() for wire in waiting]
        assert [(answer.status, answer.header(b"connection")) for answer in answers] == [(200, b"close")] * 5
        for wire in waiting:
            wire.socket.close()
        assert served.process.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_that_reach_the_whole_group_stop_it_in_order(number: int, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", *QUICK_STOP) as served, served.wire() as wire:
        wire.send(sleep(0.5))
        assert eventually(lambda: IN_FLIGHT in served.get("/metrics").body)
        for pid in (served.process.pid, *served.workers):
            os.kill(pid, number)
        assert wire.read().status == 200
        assert served.process.wait(10) == 0


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2") as served:
        workers = served.workers
        for _ in range(2):
            served.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: _status(served) != 200)
        assert served.process.wait(1) == 1
        assert eventually(lambda: all(map(is_gone, workers)), within_s=2)


def test_workers_that_are_worn_are_replaced_and_no_request_is_lost(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--supervisor-max-requests", "300", models=DOUBLE) as served:
        first = set(served.workers)
        with Load(served.port, clients=6) as load:
            assert eventually(lambda: not first & set(served.workers), within_s=40)
            assert asks_good(served, load)
        assert load.failed == []
        assert "supervisor.max_requests" in served.log.read_text()
        assert "error" not in served.log.read_text()


def test_a_worker_that_holds_too_much_memory_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, "--supervisor-max-rss-bytes", "1000000", models=DOUBLE) as served:
        before = served.workers
        assert eventually(lambda: not set(before) & set(served.workers), within_s=20)
        assert served.ask(double()).status == 200
        assert "supervisor.max_rss_bytes" in served.log.read_text()


def test_a_worker_that_somebody_asks_to_end_is_relieved(tmp_path: Path) -> None:
    with serving(tmp_path, models=DOUBLE) as served, Load(served.port) as load:
        (before,) = served.workers
        os.kill(before, signal.SIGTERM)
        assert eventually(lambda: is_gone(before), within_s=20)
        assert asks_good(served, load)
        assert load.failed == []


def test_models_are_loaded_and_unloaded_in_all_workers(tmp_path: Path) -> None:
    key = "authorization: Bearer key"
    flags = ("--workers", "3")
    with serving(tmp_path, *flags, environ={"FORETELL_ADMIN_KEY": "key"}) as served:
        assert eventually(lambda: _spread(served, double()) == {200}, within_s=10)
        assert served.ask(post("/v2/repository/models/double/unload", b"", key)).status == 200
        assert _spread(served, double()) == {404}
        os.kill(served.workers[1], signal.SIGKILL)
        assert eventually(lambda: ready_workers(served, 3), within_s=20)
        assert _spread(served, double()) == {404}
        assert served.ask(post("/v2/repository/models/double/load", b"", key)).status == 200
        assert _spread(served, double()) == {200}
        assert served.ask(post("/v2/repository/models/nothing/load", b"", key)).code == "unknown_model"


def test_models_that_come_are_served_by_all_workers_and_so_are_those_that_change(tmp_path: Path) -> None:
    """One worker looks; it is killed, and another looks in its place."""
    models = tmp_path / "models"
    put(models, "first")
    flags = ("--workers", "2", "--repository-poll-s", "0.2")
    with serving(tmp_path, *flags, models={}, paths=[models]) as served:
        put(models, "second")
        assert eventually(lambda: _spread(served, asks("second")) == {200}, within_s=20)
        os.kill(served.workers[0], signal.SIGKILL)
        assert eventually(lambda: ready_workers(served, 2), within_s=20)
        put(models, "third")
        assert eventually(lambda: _spread(served, asks("third")) == {200}, within_s=20)
        shutil.rmtree(models / "first")
        assert eventually(lambda: _spread(served, asks("first")) == {404}, within_s=20)


def test_both_workers_listen_for_grpc(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--grpc-port", "0", models=DOUBLE) as served:
        (line,) = {int(each.split()[1].rpartition(":")[2], 16) for each in _listening(served)} - {served.port}
        assert served.grpc.endswith(f":{line}")
        owners = {pid for each in _listening(served) if f":{line:04X}" in each for pid in _owners(served, each.split()[9])}
        assert owners == set(served.workers)


def test_a_load_that_fails_is_told_and_what_was_served_goes_on_everywhere(tmp_path: Path) -> None:
    key = "authorization: Bearer key"
    with serving(tmp_path, "--workers", "2", models=DOUBLE, environ={"FORETELL_ADMIN_KEY": "key"}) as served:
        (tmp_path / "double.py").write_text("raise ValueError('not today')\n")
        answer = served.ask(post("/v2/repository/models/double/load", b"", key))
        assert answer.code == "broken_code"
        assert _spread(served, double()) == {200}


def test_setup_errors_are_told_once_and_nothing_is_left_running(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model at all")
    line = [sys.executable, "-m", "foretell", "serve", f"{tmp_path}/bad.onnx", "--http-port", "0", "--workers", "3"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("foretell: ") == 1
    assert done.stderr.count("what to do: ") == 1
    assert "bad.onnx" in done.stderr
    assert done.stdout == ""


def test_secrets_are_in_no_command_line_and_no_environment_of_a_worker(tmp_path: Path) -> None:
    with serving(tmp_path, models=DOUBLE, environ={"FORETELL_ADMIN_KEY": "hidden-key"}) as served:
        for pid in served.workers:
            assert b"hidden-key" not in command_of(pid)
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"hidden-key" not in environ
            assert b"OMP_NUM_THREADS=" in environ


def test_processes_that_are_left_to_the_supervisor_are_reaped() -> None:
    """As PID 1 of a container: the grandchild's parent is gone, and it is ours."""
    code = """
import ctypes, os, time
from foretell.workers.spawn import reap
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
if os.fork() == 0:
    if os.fork() == 0:
        os._exit(3)
    os._exit(0)
ended = []
until = time.monotonic() + 10
while len(ended) < 2 and time.monotonic() < until:
    reap(lambda pid, code: ended.append(code))
print(sorted(ended))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert run.stdout == "[0, 3]\n"


def test_a_supervisor_holds_little_memory(tmp_path: Path) -> None:
    with serving(tmp_path, models=DOUBLE) as served:
        status = Path(f"/proc/{served.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        assert int(match[1]) < 25 * 1024


def test_connections_are_shared_fairly(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", models=DOUBLE) as served:
        assert eventually(lambda: ready_workers(served, 2))
        with many(served, 20) as wires:
            assert all(wire.ask(double()).status == 200 for wire in wires)
            shares = Counter(_owner(wire, served) for wire in wires)
            assert set(shares) == set(served.workers)
            assert min(shares.values()) >= 6


@contextmanager
def many(served: Served, count: int) -> Iterator[list[Wire]]:
    """So many connections, opened one after the other."""
    wires: list[Wire] = []
    try:
        for _ in range(count):
            wires.append(served.wire())
            wires[-1].ask(double())
        yield wires
    finally:
        for wire in wires:
            wire.socket.close()


def asks(model: str) -> bytes:
    return infer(model, "x", [1.0, 2.0], shape=[1, 2])


def put(models: Path, name: str) -> None:
    """A model that doubles, put there in one step."""
    half = models.parent / f"{name}.half"
    (half / "1").mkdir(parents=True)
    (half / "1" / "model.py").write_text("import foretell\n" + MODELS["double"])
    (half / "pipeline.toml").write_text('[model]\nfile = "model.py:model"\n')
    models.mkdir(exist_ok=True)
    half.rename(models / name)


def _owner(wire: Wire, served: Served) -> int:
    """The pid of the worker that has the other end of a connection."""
    client = wire.socket.getsockname()[1]
    ports = (f":{served.port:04X}", f":{client:04X}")
    (pid,) = [
        pid
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1].endswith(ports[0]) and fields[2].endswith(ports[1])
        for pid in _owners(served, fields[9])
    ]
    return pid


def _owners(served: Served, inode: str) -> list[int]:
    """The workers that have a socket."""
    return [
        pid
        for pid in served.workers
        if any(_link(descriptor) == f"socket:[{inode}]" for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    ]


def _link(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:
        return ""


def _listening(served: Served) -> list[str]:
    """Lines of the sockets that the workers listen on."""
    files = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    lines = [line for file in files if file.exists() for line in file.read_text().splitlines()[1:]]
    return [line for line in lines if line.split()[3] == "0A" and _owners(served, line.split()[9])]


def _spread(served: Served, request: bytes) -> set[int]:
    """The statuses of one request over many connections at once, of which every worker has some."""
    with many(served, 12) as wires:
        return {wire.ask(request).status for wire in wires}


def _status(served: Served) -> int:
    """Of the readiness probe; 0 when there is no answer."""
    try:
        return served.ask(READY).status
    except (EOFError, OSError):
        return 0


def _body(x: float) -> bytes:
    return orjson.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [x, 1.0]}]})
