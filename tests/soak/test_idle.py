"""What a server costs that is not asked anything, and what models cost that are asked in turns."""

import os
import statistics
import time
from pathlib import Path

import pytest

from tests.backends.graphs import convolution, linear, save
from tests.serving import Served, Wire, infer, serving
from tests.soak import rounds

pytestmark = pytest.mark.clocked

MOST_OF_A_CORE = 0.01
CODE = """
import foretell

@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]"})
def model(arrays):
    return {"y": arrays["x"] * 2 + 1}
"""


def repository(folder: Path) -> Path:
    """Two ONNX models, the second of which computes for a while, and one in a process of its own."""
    for name, graph in (("small", linear(features=30)), ("large", convolution(height=64, width=64))):
        (folder / name / "1").mkdir(parents=True)
        save(graph, folder / name / "1" / "model.onnx")
    (folder / "apart" / "1").mkdir(parents=True)
    (folder / "apart" / "1" / "app.py").write_text(CODE)
    (folder / "apart" / "pipeline.toml").write_text('[model]\nfile = "app.py:model"\n[engine]\nisolation = "process"\n')
    return folder


def processes(pid: int) -> list[int]:
    """A process and all below it."""
    below = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(each for file in below for child in file.read_text().split() for each in processes(int(child)))]


def cpu_s(served: Served) -> float:
    """Seconds of computing, of all the server's processes so far."""
    ticks = 0
    for pid in processes(served.process.pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_an_idle_server_of_three_models_takes_less_than_a_hundredth_of_a_core(tmp_path: Path) -> None:
    with serving(tmp_path, models={}, paths=[repository(tmp_path / "models")]) as served:
        assert len(processes(served.process.pid)) >= 3
        time.sleep(0.5)  # what was started together settles
        before, began = cpu_s(served), time.monotonic()
        time.sleep(rounds(4, 20))  # nothing happens: that is what is measured
        used = (cpu_s(served) - before) / (time.monotonic() - began)
    assert used < MOST_OF_A_CORE


def seconds(wire: Wire, questions: list[bytes], count: int) -> float:
    """Asking the questions in turns, so often each."""
    start = time.perf_counter()
    for _ in range(count):
        for question in questions:
            assert wire.ask(question).status == 200
    return time.perf_counter() - start


def test_two_models_in_turns_cost_no_more_than_each_alone(tmp_path: Path) -> None:
    small = infer("small", "x", [0.5] * 30, shape=[1, 30])
    large = infer("large", "x", [0.5] * (3 * 64 * 64), shape=[1, 3, 64, 64])
    with serving(tmp_path, models={}, paths=[repository(tmp_path / "models")]) as served, served.wire() as wire:
        seconds(wire, [small, large], 20)
        ratios = []
        for _ in range(rounds(7, 60)):
            alone = seconds(wire, [small], 20) + seconds(wire, [large], 20)
            ratios.append(seconds(wire, [small, large], 20) / alone)
    assert statistics.median(ratios) < 1.2, ratios
