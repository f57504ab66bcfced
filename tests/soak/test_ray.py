"""`foretell predict --engine ray` on a cluster of two machines: whoever is killed, and whenever, every row is answered once."""

import json
import os
import random
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.modes.ray.nodes import SLOW, Nodes, two_nodes
from tests.serving import eventually
from tests.soak import rounds

SHARD_ROWS, SHARDS_A_KILL = 20, 12
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'foretell[ray]'")


def write_rows(folder: Path, count: int) -> None:
    (folder / "slow.py").write_text(SLOW)
    (folder / "rows.csv").write_text("\n".join(["a,b", *(f"{number},{number % 7}" for number in range(count)), ""]))


def start(folder: Path, nodes: Nodes) -> subprocess.Popen[str]:
    words = ["predict", "slow.py:model", "rows.csv", "-o", "answers.csv", "--shard-rows", str(SHARD_ROWS)]
    ray = ["--engine", "ray", "--address", nodes.address, "--report", "report.json"]
    command = [sys.executable, "-m", "foretell", *words, *ray]
    return subprocess.Popen(command, cwd=folder, env=nodes.environ, stderr=subprocess.PIPE, text=True)


def done(folder: Path) -> int:
    """How many shards are safe."""
    return sum(1 for _ in folder.rglob("*.done.json"))


def kill_machine(run: subprocess.Popen[str], folder: Path, nodes: Nodes) -> subprocess.Popen[str]:
    nodes.tell("kill")
    nodes.tell("add")
    return run


def kill_driver(run: subprocess.Popen[str], folder: Path, nodes: Nodes) -> subprocess.Popen[str]:
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    return start(folder, nodes)


def test_machines_and_drivers_that_are_killed_cost_no_row_and_give_none_twice(tmp_path: Path) -> None:
    kills = rounds(2, 20)
    rows = (kills + 1) * SHARDS_A_KILL * SHARD_ROWS
    write_rows(tmp_path, rows)
    (tmp_path / "home").mkdir()
    dice, safe = random.Random(7), 0
    with two_nodes(tmp_path / "home") as nodes:
        run = start(tmp_path, nodes)
        for kill in range(kills):
            wanted = done(tmp_path) + dice.randint(1, 6)
            assert eventually(lambda wanted=wanted: done(tmp_path) >= wanted, 120), run.poll()  # type: ignore[misc]
            safe = done(tmp_path)
            run = (kill_machine, kill_driver)[kill % 2](run, tmp_path, nodes)
        _, said = run.communicate(timeout=300)
    assert run.returncode == 0, said
    head, *lines = (tmp_path / "answers.csv").read_text().splitlines()
    assert head == "row,y"
    assert [(int(row), float(y)) for row, y in (line.split(",") for line in lines)] == [(n, n + n % 7) for n in range(rows)]
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["rows"], report["failed"]) == (rows, 0)
    assert report["resumed"] >= safe * SHARD_ROWS
    assert done(tmp_path) == 0
