"""A model is swapped again and again under load: no request fails, whoever is asked says what was there or what is there."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.backends.graphs import save
from tests.serving import Reply, Served, eventually, infer, post, serving
from tests.soak import rounds

CLIENTS = 8
PER_SECOND = 200
ADMIN = {"FORETELL_ADMIN_KEY": "k"}


def put(models: Path, version: int, *, broken: bool = False) -> None:
    """A version that multiplies by its own number, put there in one step."""
    factor = numpy_helper.from_array(np.array([version], np.float32), "factor")
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "g", tensors[:1], tensors[1:], [factor])
    half = models / "m" / f"{version}.tmp"
    half.mkdir(parents=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), half / "model.onnx")
    if broken:
        (half / "model.onnx").write_bytes((half / "model.onnx").read_bytes()[:-20])
    os.rename(half, models / "m" / str(version))


def administer(served: Served, verb: str, name: str = "m") -> Reply:
    """Load or unload; a load waits until what was there before has answered all that it had."""
    return served.ask(post(f"/v2/repository/models/{name}/{verb}", b"", "authorization: Bearer k"), timeout_s=60)


class Load:
    """Clients that ask steadily, and what they were told: the factors of the answers, and everything that is none."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.factors: set[float] = set()
        self.sent = 0
        self.failures: list[str] = []
        self._lock = threading.Lock()
        self._over = threading.Event()

    @contextmanager
    def run(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask_on, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _ask_on(self, number: int) -> None:
        question = infer("m", "x", [1.0, 1.0], shape=[1, 2])
        wire, due = self.served.wire(), time.monotonic() + number / PER_SECOND
        with wire:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                due += CLIENTS / PER_SECOND
                try:
                    self._note(wire.ask(question))
                except (OSError, EOFError) as error:
                    with self._lock:
                        self.failures.append(repr(error))
                    return

    def _note(self, reply: Reply) -> None:
        with self._lock:
            self.sent += 1
            if reply.status == 200:
                self.factors.add(reply.json()["outputs"][0]["data"][0])
            else:
                self.failures.append(f"{reply.status} {reply.body[:200]!r}")


@pytest.mark.parametrize("workers", [1, 2])
def test_swaps_under_load_make_no_error(workers: int, tmp_path: Path) -> None:
    swaps = rounds(4, 20)
    put(tmp_path / "models", 1)
    with serving(tmp_path, "--workers", str(workers), models={}, paths=[tmp_path / "models"], environ=ADMIN) as served:
        load = Load(served)
        with load.run():
            for version in range(2, swaps + 2):
                before = load.sent
                put(tmp_path / "models", version)
                assert administer(served, "load").status == 200
                assert eventually(lambda before=before: load.sent > before + 20 or load.failures)
        assert load.failures == []
        assert load.factors <= set(range(1, swaps + 2))
        assert swaps + 1 in load.factors
        entries = served.ask(post("/v2/repository/index", b"")).json()
        assert [entry["version"] for entry in entries if entry["state"] == "READY"] == [str(swaps + 1)]


def test_a_new_version_that_fails_leaves_the_old_one_and_the_api_says_why(tmp_path: Path) -> None:
    put(tmp_path / "models", 1)
    with serving(tmp_path, models={}, paths=[tmp_path / "models"], environ=ADMIN) as served:
        load = Load(served)
        with load.run():
            put(tmp_path / "models", 2, broken=True)
            reply = administer(served, "load")
            assert (reply.status >= 400, reply.code) == (True, "broken_model")
            assert "2/model.onnx cannot be loaded" in str(reply.json()["error"])
            assert eventually(lambda: load.sent > 20 or load.failures)
        assert (load.failures, load.factors) == ([], {1.0})
        entries = {entry["version"]: entry for entry in served.ask(post("/v2/repository/index", b"")).json()}
        assert (entries["1"]["state"], entries["2"]["state"]) == ("READY", "UNAVAILABLE")
        assert entries["2"]["reason"] == "broken_model: The model file cannot be loaded."
        assert str(tmp_path) not in str(entries)


def test_a_slow_upload_that_began_before_a_swap_is_answered_by_what_took_over(tmp_path: Path) -> None:
    put(tmp_path / "models", 1)
    with serving(tmp_path, models={}, paths=[tmp_path / "models"], environ=ADMIN) as served, served.wire() as wire:
        question = infer("m", "x", [1.0, 1.0], shape=[1, 2])
        wire.send(question[:-10])
        put(tmp_path / "models", 2)
        assert administer(served, "load").status == 200
        wire.send(question[-10:])
        reply = wire.read()
        assert (reply.status, reply.json()["outputs"][0]["data"]) == (200, [2.0, 2.0])


def test_a_repository_that_is_polled_takes_what_comes_and_lets_go_what_went(tmp_path: Path) -> None:
    put(tmp_path / "models", 1)
    flags = ("--repository-poll-s", "0.05")
    with serving(tmp_path, *flags, models={}, paths=[tmp_path / "models"], environ=ADMIN) as served:
        load = Load(served)
        with load.run():
            put(tmp_path / "models", 2)
            assert eventually(lambda: 2.0 in load.factors or load.failures, within_s=20)
            os.rename(tmp_path / "models" / "m" / "2", tmp_path / "gone")
            load.factors.clear()
            assert eventually(lambda: 1.0 in load.factors or load.failures, within_s=20)
        assert load.failures == []
