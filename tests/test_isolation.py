"""A server with models in processes of their own: what one of them does is not felt by the others."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.serving import Served, Wire, eventually, infer, serving

BURN = """
import os, signal, time
import foretell

@foretell.model(inputs={"seconds": "FP32"}, outputs={"pid": "INT64"})
def model(arrays):
    seconds = float(arrays["seconds"].max())
    if seconds < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        sum(range(1000))
    return {"pid": (arrays["seconds"] * 0 + os.getpid()).astype("int64")}
"""
QUICK = """
import foretell

@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]"})
def model(arrays):
    return {"y": arrays["x"] * 2 + 1}
"""


def write(repository: Path, models: Mapping[str, tuple[str, str]]) -> Path:
    """A repository of Python models, each with its code and its ``[engine]``."""
    for name, (code, engine) in models.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "app.py").write_text(code)
        (repository / name / "pipeline.toml").write_text(f'[model]\nfile = "app.py:model"\n[engine]\n{engine}')
    return repository


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("isolation")
    isolated = 'isolation = "process"\n'
    models = {
        "burn": (BURN, isolated),
        "short": (BURN, isolated + "execute_timeout_s = 0.2\n"),
        "poisoned": (BURN, isolated),
        "doomed": (BURN, isolated),
        "quick": (QUICK, ""),
    }
    with serving(folder, models={}, paths=[write(folder / "models", models)]) as served:
        yield served


def burn(seconds: float, model: str = "burn") -> bytes:
    return infer(model, "seconds", [seconds], shape=[1])


def is_ready(server: Served, model: str) -> bool:
    return server.get(f"/v2/models/{model}/ready").status == 200


def ask_quick(wire: Wire) -> float:
    """Seconds of one request to the model that lives in the server."""
    start = time.monotonic()
    assert wire.ask(infer("quick", "x", [1.0, 2.0], shape=[1, 2])).status == 200
    return time.monotonic() - start


def test_a_model_that_holds_the_gil_for_a_second_holds_up_no_other(server: Served) -> None:
    with server.wire() as busy, server.wire() as other:
        ask_quick(other)
        busy.send(burn(1.0))
        ends, slowest, count = time.monotonic() + 0.8, 0.0, 0
        while time.monotonic() < ends:
            slowest, count = max(slowest, ask_quick(other)), count + 1
        assert busy.read().status == 200
    assert count > 20
    assert slowest < 0.4


def test_a_crash_is_a_503_for_that_request_and_the_next_is_answered(server: Served) -> None:
    before = server.ask(burn(0.0)).json()["outputs"][0]["data"]
    reply = server.ask(burn(-1.0))
    assert (reply.status, reply.code) == (503, "model_crashed")
    assert reply.header(b"retry-after") == b"1"
    assert eventually(lambda: is_ready(server, "burn"))
    after = server.ask(burn(0.0)).json()["outputs"][0]["data"]
    assert before != after


def test_a_request_that_was_there_at_two_crashes_is_refused_and_others_are_answered(server: Served) -> None:
    for _ in range(2):
        assert eventually(lambda: is_ready(server, "poisoned"))
        assert server.ask(burn(-5.0, "poisoned")).code == "model_crashed"
    assert eventually(lambda: is_ready(server, "poisoned"))
    assert server.ask(burn(-5.0, "poisoned")).code == "refused_request"
    assert server.ask(burn(0.0, "poisoned")).status == 200


def test_a_call_that_takes_longer_than_it_may_is_ended_and_the_next_is_answered(server: Served) -> None:
    start = time.monotonic()
    reply = server.ask(burn(30.0, "short"))
    assert (reply.status, reply.code) == (504, "deadline_passed")
    assert time.monotonic() - start < 5
    assert eventually(lambda: server.ask(burn(0.0, "short")).status == 200)


def test_a_model_without_a_process_is_not_ready_and_the_index_says_why(server: Served) -> None:
    for crash in range(5):
        assert eventually(lambda: is_ready(server, "doomed"), 15)
        assert server.ask(burn(-10.0 - crash, "doomed")).code == "model_crashed"
    assert eventually(lambda: server.ask(burn(0.0, "doomed")).code == "model_given_up")
    assert not is_ready(server, "doomed")
    assert server.get("/v2/health/ready").status == 503
    index = {
        entry["name"]: entry for entry in server.ask(b"POST /v2/repository/index HTTP/1.1\r\nhost: localhost\r\n\r\n").json()
    }
    assert index["doomed"]["state"] == "UNAVAILABLE"
    assert "crashed 5 times within 60 s, and is given up; at last it was ended by SIGKILL" in index["doomed"]["reason"]
    assert index["quick"]["state"] == "READY"
