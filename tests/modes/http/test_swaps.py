"""A request whose body comes while its model is swapped is answered by the one that took over."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.serving import Served, binary, eventually, infer, post, serving

KEY = "0123456789abcdef"
ADMIN = f"authorization: Bearer {KEY}"
CODE = """
import numpy as np
import foretell

@foretell.model(inputs={{"x": "FP32[2]"}}, outputs={{"y": "FP32[2]"}})
def model(arrays):
    return {{"y": arrays["x"] * np.float32({factor})}}
"""


def write(folder: Path, factor: int) -> None:
    (folder / "new.tmp").write_text(CODE.format(factor=factor))
    (folder / "new.tmp").rename(folder / "app.py")


@pytest.fixture(params=["--http-fast-lane", "--no-http-fast-lane"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Served, Path]]:
    version = tmp_path / "models/m/1"
    version.mkdir(parents=True)
    write(version, 2)
    (tmp_path / "models/m/pipeline.toml").write_text('[model]\nfile = "app.py:model"\n')
    log = tmp_path / "log"
    log.mkdir()
    with serving(log, request.param, models={}, paths=[tmp_path / "models"], environ={"FORETELL_ADMIN_KEY": KEY}) as served:
        yield served, version


JSON = infer("m", "x", [1, 2], shape=[1, 2])
BINARY = binary("m", "x", np.array([1, 2], "<f4").tobytes(), shape=[1, 2], parameters={})


@pytest.mark.parametrize(("request_", "came_before"), [(JSON, False), (BINARY, False), (JSON, True), (BINARY, True)])
def test_a_body_that_came_during_a_swap_is_answered_by_the_new_one(
    request_: bytes, came_before: bool, server: tuple[Served, Path]
) -> None:
    served, version = server
    with served.wire() as wire:
        if came_before:
            assert wire.ask(request_).json()["outputs"][0]["data"] == [2, 4]
        wire.send(request_[:-3])
        write(version, 10)
        assert served.ask(post("/v2/repository/models/m/load", "", ADMIN)).status == 200
        assert eventually(lambda: served.ask(request_).json()["outputs"][0]["data"] == [10, 20])
        wire.send(request_[-3:])
        reply = wire.read()
    assert (reply.status, reply.json()["outputs"][0]["data"]) == (200, [10, 20])


def test_two_different_credentials_are_none(server: tuple[Served, Path]) -> None:
    served, _ = server
    load = "/v2/repository/models/m/load"
    assert served.ask(post(load, "", ADMIN, ADMIN)).status == 200
    for pair in ((ADMIN, "authorization: Bearer other"), ("authorization: Bearer other", ADMIN)):
        assert served.ask(post(load, "", *pair)).status == 401
