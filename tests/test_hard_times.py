"""Real servers where something around them fails: streams, disks, descriptors, and whoever started them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foretell.board import Board
from foretell.errors import Setup
from tests.serving import MODELS, Served, Wire, command_of, double, eventually, free_port, infer, post, serving
from tests.workers.test_supervisor import DOUBLE, asks, put

KEY = "authorization: Bearer key"
ADMIN = {"FORETELL_ADMIN_KEY": "key"}
QUICK_STOP = ("--timeouts-drain-grace-s", "0")
LOOPING = """
@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]"})
def model(arrays):
    while (arrays["x"] == -9).any():
        pass
    return {"y": arrays["x"]}
"""
LEAVING = """
@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]"})
def model(arrays):
    if (arrays["x"] == -9).any():
        raise SystemExit(0)
    return {"y": arrays["x"]}
"""


def is_gone(pid: int) -> bool:
    return b"foretell.workers.worker" not in command_of(pid)


@contextmanager
def started(folder: Path, command: str, *flags: str) -> Iterator[Served]:
    """A server started by a shell's ``command`` with its line as ``"$@"``, once it answers."""
    (folder / "double.py").write_text("import foretell\n" + MODELS["double"])
    port = free_port()
    line = [sys.executable, "-m", "foretell", "serve", f"{folder}/double.py:model", "--http-port", str(port), *flags]
    with subprocess.Popen(["sh", "-c", command, "sh", *line], text=True) as process:
        try:
            served = Served(process, port, folder / "log.txt")
            assert eventually(lambda: process.poll() is None and answers(served), within_s=20)
            yield served
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def answers(served: Served) -> bool:
    try:
        return served.get("/v2/health/ready").status == 200
    except (OSError, EOFError):
        return False


@pytest.mark.parametrize("streams", [">/dev/full", ">&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_server_goes_on_where_its_standard_streams_are_closed_or_full(streams: str, tmp_path: Path) -> None:
    with started(tmp_path, f'exec "$@" {streams}', *QUICK_STOP) as served:
        assert served.ask(double()).status == 200
        served.process.terminate()
        assert served.process.wait(20) == 0


def test_nothing_that_is_printed_reaches_a_socket_when_standard_streams_are_closed(tmp_path: Path) -> None:
    with started(tmp_path, 'exec "$@" <&- >&- 2>&-', *QUICK_STOP) as served:
        for pid in (served.process.pid, *served.workers):
            assert [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)] == ["/dev/null"] * 3


def test_a_log_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    (tmp_path / "double.py").write_text("import foretell\n" + MODELS["double"])
    line = [sys.executable, "-m", "foretell", "serve", f"{tmp_path}/double.py:model", "--log-requests", *QUICK_STOP]
    port = free_port()
    with subprocess.Popen([*line, "--http-port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"ready")
        with Wire(port) as wire:
            assert {wire.ask(double()).status for _ in range(3000)} == {200}
        process.terminate()
        assert process.wait(20) == 0


def test_a_worker_in_an_endless_loop_does_not_outlive_its_supervisor_for_long(tmp_path: Path) -> None:
    flags = ("--timeouts-shutdown-s", "0.5", "--engine-inline-below-us", "1000000")
    with serving(tmp_path, *flags, models={"looping": LOOPING}) as served, served.wire() as wire:
        (worker,) = served.workers
        wire.send(infer("looping", "x", [-9.0, 1.0], shape=[1, 2]))
        served.process.kill()
        assert eventually(lambda: is_gone(worker), within_s=15)


def test_a_worker_that_is_stopped_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    with serving(tmp_path, models=DOUBLE) as served:
        (worker,) = served.workers
        os.kill(worker, signal.SIGSTOP)
        served.process.kill()
        assert eventually(lambda: is_gone(worker), within_s=10)


def test_a_worker_that_cannot_begin_is_one_sentence_and_no_loop_of_crashes(tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError('libuv is not there')\n")
    (tmp_path / "double.py").write_text("import foretell\n" + MODELS["double"])
    line = [sys.executable, "-P", "-m", "foretell", "serve", f"{tmp_path}/double.py:model", "--http-port", "0"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.count("\nImportError: libuv is not there") == 1
    assert "a worker could not begin" in done.stderr
    assert "[workers_failed]" in done.stderr
    assert "another is started" not in done.stderr


def refuse(*_: object) -> int:
    raise OSError(38, "Function not implemented")


def test_where_no_memory_without_a_name_is_given_a_file_without_one_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", refuse)
    shared = Board.create(2)
    shared.slots[1].take(7)
    assert Board(shared.fd).slots[1].pid == 7
    os.close(shared.fd)


def test_where_no_memory_can_be_shared_at_all_the_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(Setup) as refusal:
        Board.create(2)
    assert refusal.value.code == "no_shared_memory"


def test_a_model_that_calls_exit_fails_its_caller_and_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, models={"leaving": LEAVING}) as served:
        for _ in range(3):
            assert served.ask(infer("leaving", "x", [-9.0, 1.0], shape=[1, 2])).code == "model_failed"
        assert served.ask(infer("leaving", "x", [1.0, 1.0], shape=[1, 2])).status == 200


@pytest.mark.parametrize("how", ["gone", "broken"])
def test_a_model_that_is_lost_on_disk_does_not_keep_the_others_from_being_served_after_a_crash(
    how: str, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    put(models, "good")
    put(models, "bad")
    with serving(tmp_path, models={}, paths=[models], environ=ADMIN) as served:
        if how == "gone":
            shutil.rmtree(models / "bad")
        else:
            (models / "bad" / "1" / "model.py").write_text("raise ValueError('half of it')\n")
        for _ in range(2):
            crash(served)
            assert eventually(lambda: status(served, asks("good")) == 200, within_s=20)
            assert status(served, asks("bad")) == 503
            assert served.get("/v2/health/ready").status == 503
        assert "bad is served no longer" in served.log.read_text()
        shutil.rmtree(models / "bad", ignore_errors=True)
        put(models, "bad")
        assert served.ask(post("/v2/repository/models/bad/load", b"", KEY)).status == 200
        assert served.get("/v2/health/ready").status == 200
        crash(served)
        assert eventually(lambda: status(served, asks("bad")) == 200, within_s=20)


def test_files_that_were_changed_when_one_worker_was_replaced_are_served_by_all(tmp_path: Path) -> None:
    models = tmp_path / "models"
    put(models, "changing")
    with serving(tmp_path, "--workers", "2", models={}, paths=[models]) as served:
        code = models / "changing" / "1" / "model.py"
        code.write_text(code.read_text().replace("x * 2 + 1", "x * 7"))
        crash(served)
        assert eventually(lambda: len(served.workers) == 2 and sums(served) == {7.0}, within_s=20)
        assert "its files were changed" in served.log.read_text()


def crash(served: Served) -> None:
    before = served.workers[0]
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: is_gone(before))


def status(served: Served, request: bytes) -> int:
    try:
        return served.ask(request).status
    except (OSError, EOFError):
        return 0


def sums(served: Served) -> set[float]:
    """What the workers answer, over many connections at once."""
    wires = [served.wire() for _ in range(12)]
    try:
        return {wire.ask(asks("changing")).json()["outputs"][0]["data"][0] for wire in wires}
    except (OSError, EOFError, KeyError):
        return set()
    finally:
        for wire in wires:
            wire.socket.close()


def test_a_port_that_is_taken_is_told_by_the_second_server(tmp_path: Path) -> None:
    with serving(tmp_path, models=DOUBLE) as served:
        line = [sys.executable, "-m", "foretell", "serve", f"{tmp_path}/double.py:model", "--http-port", str(served.port)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "[wrong_address]" in done.stderr
        assert served.ask(double()).status == 200


def test_a_server_without_descriptors_left_serves_again_when_there_are(tmp_path: Path) -> None:
    with started(tmp_path, 'ulimit -n 64; exec "$@"', *QUICK_STOP) as served:
        many = [socket.create_connection(("127.0.0.1", served.port), 5) for _ in range(100)]
        for each in many:
            each.close()
        assert eventually(lambda: status(served, double()) == 200, within_s=10)
