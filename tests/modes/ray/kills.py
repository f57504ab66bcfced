"""Runs of `foretell predict --engine ray` whose machines and drivers are killed by turns: each row is answered once."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from tests.modes.ray.nodes import SLOW, Nodes
from tests.serving import eventually

SHARD_ROWS, SHARDS_A_KILL = 20, 12


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


def run_through(folder: Path, nodes: Nodes, kills: int) -> None:
    """A run through so many kills, of a machine and of the driver by turns, each after some more shards; then what it gave."""
    rows = (kills + 1) * SHARDS_A_KILL * SHARD_ROWS
    write_rows(folder, rows)
    dice, safe = random.Random(7), 0
    run = start(folder, nodes)
    for kill in range(kills):
        safe = done(folder) + dice.randint(1, 6)
        assert eventually(lambda safe=safe: done(folder) >= safe, 300), run.poll()
        run = (kill_machine, kill_driver)[kill % 2](run, folder, nodes)
    _, said = run.communicate(timeout=600)
    assert run.returncode == 0, said
    head, *lines = (folder / "answers.csv").read_text().splitlines()
    assert head == "row,y"
    assert [(int(row), float(y)) for row, y in (line.split(",") for line in lines)] == [(n, n + n % 7) for n in range(rows)]
    report = json.loads((folder / "report.json").read_text())
    assert (report["rows"], report["failed"]) == (rows, 0)
    assert report["resumed"] >= safe * SHARD_ROWS
    assert done(folder) == 0
