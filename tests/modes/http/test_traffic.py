"""Versions that share the callers of a path, and a shadow, over real connections and every door of HTTP."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.serving import Served, eventually, infer, post, serving

CODE = """
import numpy as np
import foretell

@foretell.model(inputs={{"x": "FP32[2]"}}, outputs={{"y": "FP32[2]"}})
def model(arrays):
    return {{"y": arrays["x"] * 2 + np.float32({shift})}}
"""
SPLIT = """
[model]
file = "app.py:model"
[versions]
policy = "all"
labels = {stable = 1, canary = 2}
traffic = {stable = 75, canary = 25}
sticky = "X-User-Id"
shadow = "3"
"""
SHIFTS = {"1": 1.0, "2": 1.0, "3": 1.25}


@pytest.fixture(scope="module", params=["--http-fast-lane", "--no-http-fast-lane"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "split", SPLIT)
    with serving(tmp_path_factory.mktemp("log"), request.param, models={}, paths=[folder]) as served:
        yield served


def write_model(folder: Path, said: str) -> None:
    for version, shift in SHIFTS.items():
        (folder / version).mkdir(parents=True)
        (folder / version / "app.py").write_text(CODE.format(shift=shift))
    (folder / "pipeline.toml").write_text(said)


def ask(*headers: str) -> bytes:
    return infer("split", "x", [1, 2], *headers, shape=[1, 2])


def version_of(reply: Any) -> str:
    assert reply.status == 200, reply.body
    version: str = reply.json()["model_version"]
    return version


def numbers(served: Served) -> dict[str, float]:
    """What the metrics tell of the shadow at one moment."""
    text = served.get("/metrics").body.decode()
    found = re.findall(r'^foretell_shadow_(\w+)\{model="split",version="3"\} (\S+)', text, re.M)
    return {"rows_total": 0.0} | {name: float(value) for name, value in found}


def test_callers_without_a_key_are_split_by_weight(server: Served) -> None:
    with server.wire() as wire:
        counts = Counter(version_of(wire.ask(ask())) for _ in range(400))
    assert set(counts) == {"1", "2"}
    assert 50 < counts["2"] < 150


def test_a_caller_with_a_key_stays_at_one_version_whatever_the_door(server: Served) -> None:
    for user in ("a", "b", "c", "d", "e", "f"):
        header = f"X-User-Id: {user}"
        row = post("/predict/split", '{"x":[1,2]}', header)
        one = {version_of(server.ask(each)) for each in (ask(header), ask(header), row)}
        assert len(one) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/split/generate", {"x": [1, 2]}),
        ("/predict/split", {"x": [1, 2]}),
        ("/predictions/split", {"x": [1, 2]}),
        ("/invocations", {"x": [1, 2]}),
        ("/v1/models/split:predict", {"instances": [[1, 2]]}),
    ],
)
def test_every_door_without_a_version_is_shared(path: str, body: object, server: Served) -> None:
    reply = server.ask(post(path, orjson.dumps(body)))
    assert reply.status == 200
    assert b"3.25" not in reply.body


def test_a_stream_is_shared_too(server: Served) -> None:
    with server.wire() as wire:
        wire.send(post("/v2/models/split/generate_stream", '{"x":[1,2]}'))
        assert wire.read().status == 200


def test_a_version_or_label_in_the_path_is_answered_by_it(server: Served) -> None:
    for place, version in (("versions/3", "3"), ("versions/1", "1"), ("labels/canary", "2")):
        request = ask().replace(b"split/infer", f"split/{place}/infer".encode())
        assert version_of(server.ask(request)) == version


def test_what_the_shadow_would_have_answered_is_told_by_the_metrics(server: Served) -> None:
    before = numbers(server)["rows_total"]
    for _ in range(10):
        assert server.ask(ask()).json()["outputs"][0]["data"] == [3.0, 5.0]
    assert eventually(lambda: numbers(server)["rows_total"] >= before + 10)
    told = numbers(server)
    assert told["differing_rows_total"] == told["rows_total"]
    assert told.get("deciding_rows_total", 0) == 0
    assert told["largest_difference"] == 0.25
    assert told["difference_total"] / told["values_total"] == 0.25


def test_copies_are_no_requests_of_callers(server: Served) -> None:
    assert eventually(lambda: numbers(server)["rows_total"] > 0)
    text = server.get("/metrics").body.decode()
    asked = re.findall(r'^foretell_requests_total\{[^}]*version="3"[^}]*\} (\S+)', text, re.M)
    assert sum(map(float, asked)) <= 2  # those of the test that names its version
