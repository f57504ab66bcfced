"""Start and stop of a real server."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import foretell.demo
from foretell.errors import Setup
from foretell.sockets import listen
from tests.serving import Served, double, eventually, free_port, post, serving, sleep

pytestmark = pytest.mark.clocked

DEMO = Path(foretell.demo.__file__).parent / "models"
READY = b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n"


def refused_start(*arguments: object) -> str:
    """What `serve` says on standard error when it cannot start, within 5 s and with exit code 1."""
    start = time.monotonic()
    line = [sys.executable, "-m", "foretell", "serve", "--http-port", "0", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30)
    assert time.monotonic() - start < 5
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "what to do: " in done.stderr
    return done.stderr


def busy(served: Served) -> bool:
    return b'foretell_in_flight_requests{model="slow",version="1"} 1.0' in served.get("/metrics").body


@pytest.mark.parametrize("way", ["--http-fast-lane", "--no-http-fast-lane"])
def test_sigterm_turns_unready_at_once_and_accepts_through_the_grace(way: str, tmp_path: Path) -> None:
    with serving(tmp_path, way, "--timeouts-drain-grace-s", "1") as served, served.wire() as old:
        assert old.ask(double()).header(b"connection") is None
        served.process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        assert eventually(lambda: served.ask(READY).status == 503, within_s=0.5)
        for wire in (old, served.wire()):
            answer = wire.ask(double())
            assert (answer.status, answer.header(b"connection")) == (200, b"close")
            assert wire.closes()
            wire.socket.close()
        assert served.process.wait(10) == 0
        assert time.monotonic() - start > 0.9


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.wire() as wire:
        wire.send(sleep(20))
        assert eventually(lambda: busy(served))
        served.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: served.ask(READY).status == 503)
        start = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(10) != 0
        assert time.monotonic() - start < 1


def test_ctrl_c_ends_without_grace(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        start = time.monotonic()
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(10) == 0
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("way", ["--http-fast-lane", "--no-http-fast-lane"])
def test_the_end_does_not_wait_for_answers_longer_than_the_shutdown_time(way: str, tmp_path: Path) -> None:
    with (
        serving(tmp_path, way, "--timeouts-drain-grace-s", "0", "--timeouts-shutdown-s", "0.5") as served,
        served.wire() as wire,
    ):
        wire.send(sleep(1.5))
        assert eventually(lambda: busy(served))
        start = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(10)
        assert 0.4 < time.monotonic() - start < 3


def test_a_taken_port_is_refused_with_the_flag_that_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused_start(DEMO, "--http-port", port)
    assert f"port {port}" in told
    assert "--http-port" in told


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(Setup, match="--host"):
        listen("192.0.2.1", 0)


def test_a_missing_label_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").write_bytes((DEMO / "digits" / "1" / "model.onnx").read_bytes())
    (tmp_path / "m" / "pipeline.toml").write_text((DEMO / "digits" / "pipeline.toml").read_text())
    assert "labels.txt" in refused_start(tmp_path / "m")


def test_steps_that_do_not_fit_the_model_are_refused_by_the_file(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").write_bytes((DEMO / "digits" / "1" / "model.onnx").read_bytes())
    text = (DEMO / "digits" / "pipeline.toml").read_text().replace("height = 8", "height = 9").partition("[[postprocess]]")[0]
    (tmp_path / "m" / "pipeline.toml").write_text(text)
    told = refused_start(tmp_path / "m")
    assert "pipeline.toml" in told
    assert "[64]" in told
    assert "[72]" in told


@pytest.mark.parametrize("way", ["--http-fast-lane", "--no-http-fast-lane"])
def test_a_kept_connection_follows_a_model_through_unload_and_load(way: str, tmp_path: Path) -> None:
    key = "authorization: Bearer key"
    with serving(tmp_path, way, environ={"FORETELL_ADMIN_KEY": "key"}) as served, served.wire() as kept:
        assert kept.ask(double()).status == 200
        assert served.ask(post("/v2/repository/models/double/unload", b"", key)).status == 200
        assert kept.ask(double()).code == "unknown_model"
        assert served.ask(post("/v2/repository/models/double/load", b"", key)).status == 200
        assert kept.ask(double()).status == 200


def test_the_end_does_not_wait_for_a_model_that_is_loading(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "late.py").write_text(f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(30)\n")
    line = [sys.executable, "-m", "foretell", "serve", f"{tmp_path}/late.py:model", "--timeouts-shutdown-s", "0.5"]
    with subprocess.Popen([*line, "--timeouts-drain-grace-s", "0", "--http-port", str(free_port())]) as process:
        try:
            assert eventually(begun.exists)  # it is in the middle of its loading
            process.send_signal(signal.SIGTERM)
            start = time.monotonic()
            assert process.wait(10) == 0
            assert time.monotonic() - start < 3
        finally:
            process.kill()
