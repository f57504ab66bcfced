"""The door itself: off by default, honest about being ready, and closed as it should be."""

import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from foretell.modes.grpc.stubs.health_pb2 import HealthCheckRequest, HealthCheckResponse
from foretell.modes.grpc.stubs.inference_pb2 import ModelInferResponse, ServerReadyResponse
from tests.modes.grpc.asking import INFER, Channel, Refused, ask, double, refused, sleep
from tests.serving import MODELS, Served, eventually, serving

CHECK = "/grpc.health.v1.Health/Check"
READY = "/inference.GRPCInferenceService/ServerReady"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
DOUBLE = {"double": MODELS["double"], "slow": MODELS["slow"]}


def open_channel(address: str) -> Channel:
    return grpc.insecure_channel(address)


def health(channel: Channel, service: str = "") -> str:
    answer = ask(channel, CHECK, HealthCheckRequest(service=service).SerializeToString())
    assert isinstance(answer, bytes), answer
    return HealthCheckResponse.ServingStatus.Name(HealthCheckResponse.FromString(answer).status)


def is_ready(channel: Channel) -> bool:
    answer = ask(channel, READY, b"")
    assert isinstance(answer, bytes), answer
    return ServerReadyResponse.FromString(answer).ready


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "tensorflow.serving.PredictionService"])
def test_health_knows_the_services(channel: Channel, service: str) -> None:
    assert health(channel, service) == "SERVING"


def test_watching_an_unknown_service_says_so_and_goes_on(channel: Channel) -> None:
    body = HealthCheckRequest(service="z").SerializeToString()
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(body, timeout=10)
    assert HealthCheckResponse.FromString(next(watch)).status == HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def test_without_a_port_there_is_no_grpc(lane_server: Served) -> None:
    assert "gRPC" not in lane_server.ready


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_taken_port_is_refused_by_name(server: Served, tmp_path: Path, workers: str) -> None:
    (tmp_path / "double.py").write_text("import foretell\n" + MODELS["double"])
    port = server.grpc.rpartition(":")[2]
    ports = ["--http-port", "0", "--grpc-port", port, "--workers", workers]
    line = [sys.executable, "-m", "foretell", "serve", f"{tmp_path}/double.py:model", *ports]
    run = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert f"port {port} for gRPC" in run.stderr
    assert "--grpc-port" in run.stderr


@pytest.mark.parametrize("flags", ["", '"--check", '], ids=["serve", "check"])
def test_a_missing_package_says_what_to_type(tmp_path: Path, flags: str) -> None:
    (tmp_path / "double.py").write_text("import foretell\n" + MODELS["double"])
    code = f"""
import sys
sys.modules["grpc"] = None
from foretell.cli import main
sys.argv = ["foretell", "serve", {flags}"{tmp_path}/double.py:model", "--http-port", "0", "--grpc-port", "0", "--workers", "0"]
main()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "pip install 'foretell[grpc]'" in run.stderr
    assert "[missing_extra]" in run.stderr


def test_without_a_supervisor_it_answers_every_channel_on_a_free_port(tmp_path: Path) -> None:
    with ExitStack() as stack:
        served = stack.enter_context(serving(tmp_path, "--grpc-port", "0", "--workers", "0", models=DOUBLE))
        alone = [("grpc.use_local_subchannel_pool", 1)]
        channels: list[Channel] = [stack.enter_context(grpc.insecure_channel(served.grpc, options=alone)) for _ in range(24)]
        calls: list[Any] = [channel.unary_unary(INFER).future(double(), timeout=30) for channel in channels]
        assert {ModelInferResponse.FromString(call.result()).model_name for call in calls} == {"double"}


def test_without_a_key_nobody_loads_or_unloads(tmp_path: Path) -> None:
    with serving(tmp_path, "--grpc-port", "0", models=DOUBLE) as served, open_channel(served.grpc) as channel:
        answer = refused(
            channel, "/inference.GRPCInferenceService/RepositoryModelUnload", b"", metadata=[("authorization", "Bearer ")]
        )
        assert (answer.status, answer.code) == (grpc.StatusCode.PERMISSION_DENIED, "admin_off")
        assert isinstance(ask(channel, INFER, double()), bytes)


def test_stopping_drains_as_over_http(tmp_path: Path) -> None:
    """Unready at once, accepting for the grace, then what is in flight is answered, watches and streams end, and it exits."""
    flags = ("--grpc-port", "0", "--timeouts-drain-grace-s", "1")
    with serving(tmp_path, *flags, models=DOUBLE) as served, open_channel(served.grpc) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=30)
        assert HealthCheckResponse.FromString(next(watch)).status == HealthCheckResponse.SERVING
        idle = threading.Event()
        stream: Any = channel.stream_stream(STREAM)(_one_then_wait(idle), timeout=30)
        next(stream)
        served.process.send_signal(signal.SIGTERM)
        assert HealthCheckResponse.FromString(next(watch)).status == HealthCheckResponse.NOT_SERVING
        assert not is_ready(channel)
        assert health(channel) == "NOT_SERVING"
        assert isinstance(ask(channel, INFER, double()), bytes)
        long = channel.unary_unary(INFER).future(sleep(1.5), timeout=30)
        assert ModelInferResponse.FromString(long.result()).model_name == "slow"
        assert list(watch) == []
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        ended: Any = caught.value
        assert ended.code() is grpc.StatusCode.UNAVAILABLE
        idle.set()
        assert served.process.wait(10) == 0
        answer = ask(channel, INFER, double(), timeout_s=1)
        assert isinstance(answer, Refused)
        assert answer.status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_it_listens_before_its_models_are_loaded_and_says_that_it_is_not_ready(tmp_path: Path) -> None:
    """A load that waits for a file: the server is asked while it loads."""
    go = tmp_path / "go"
    slow_load = f"""
import os
while not os.path.exists({str(go)!r}):
    time.sleep(0.01)
{MODELS["double"]}
"""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    (tmp_path / "double.py").write_text("import time\nimport foretell\n" + slow_load)
    line = [
        sys.executable,
        "-m",
        "foretell",
        "serve",
        f"{tmp_path}/double.py:model",
        "--http-port",
        "0",
        "--grpc-port",
        str(port),
    ]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            with open_channel(f"127.0.0.1:{port}") as channel:
                watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=30, wait_for_ready=True)
                assert HealthCheckResponse.FromString(next(watch)).status == HealthCheckResponse.NOT_SERVING
                assert not is_ready(channel)
                assert refused(channel, INFER, double()).status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
                go.touch()
                assert HealthCheckResponse.FromString(next(watch)).status == HealthCheckResponse.SERVING
                assert eventually(lambda: is_ready(channel))
                watch.cancel()
        finally:
            process.kill()


def _one_then_wait(end: threading.Event) -> Any:
    yield double()
    end.wait(30)
