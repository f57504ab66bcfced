"""`foretell predict` killed at random moments, for each way of writing: every row is there once, little is computed twice."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from foretell.modes.files.ledger import INSIDE
from tests.serving import eventually
from tests.soak import rounds

ROOT = Path(__file__).parents[2]
ROWS = rounds(12_000, 60_000)
SHARD_ROWS = 2000
WORKERS = 2
KILLS = rounds(1, 20)
MODEL = """
import os
import time
import foretell

@foretell.model(inputs={"x": "FP32[3]"}, outputs={"y": "FP32"})
def model(inputs):
    time.sleep(0.02)
    with open(os.environ["ROWS_SEEN"], "ab") as seen:
        seen.write(b"%d\\n" % len(inputs["x"]))
    return {"y": inputs["x"].sum(axis=1)}
"""


@pytest.mark.parametrize("out", ["answers.csv", "answers", *rounds([], ["answers.parquet"])])
def test_killed_at_random_moments_every_row_is_answered_once(tmp_path: Path, out: str) -> None:
    (tmp_path / "app.py").write_text(MODEL)
    columns = {f"x_{i}": [float(row % 1000 + i) for row in range(ROWS)] for i in range(3)}
    pa.csv.write_csv(pa.table({"id": list(range(ROWS)), **columns}), tmp_path / "rows.csv")
    target, seen = tmp_path / out, tmp_path / "seen"
    command = [
        sys.executable,
        "-m",
        "foretell",
        "predict",
        f"{tmp_path}/app.py:model",
        f"{tmp_path}/rows.csv",
        "-o",
        str(target),
    ]
    command += ["--shard-rows", str(SHARD_ROWS), "--batch-rows", "500", "--workers", str(WORKERS), "--keep", "id"]
    command += [] if target.suffix else ["--format", "parquet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ROWS_SEEN": str(seen)}
    moments = random.Random(0)
    start_s, work_s = run(command, environment, seen)
    kills = runs = 0
    check(target, seen, 0)
    while kills < KILLS:
        deaths = 0
        while not killed(command, environment, start_s + moments.uniform(-0.1, 1.1) * work_s, target):
            deaths += 1
        kills, runs = kills + deaths, runs + 1
        check(target, seen, deaths)
    print(f"{out}: {kills} kills in {runs} runs, all exact")


def run(command: list[str], environment: dict[str, str], seen: Path) -> tuple[float, float]:
    """Seconds until the model is first called, and from then to the end, of a run that is left in peace."""
    started = time.monotonic()
    with subprocess.Popen(command, env=environment) as process:
        assert eventually(seen.exists)
        began = time.monotonic()
    assert process.returncode == 0
    return began - started, time.monotonic() - began


def killed(command: list[str], environment: dict[str, str], after_s: float, target: Path) -> bool:
    """Kill a run after some time; True if all that it had to do was done by then, and it was left to end."""
    with subprocess.Popen(command, env=environment) as process:
        try:
            assert process.wait(after_s) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGSTOP)  # so that what is looked at now is how it is killed
            if not is_over(target):
                process.kill()
                return False
            process.send_signal(signal.SIGCONT)
    assert process.returncode == 0
    return True


def is_over(target: Path) -> bool:
    """Whether a run has its answers where they belong, and no checkpoint any more."""
    return target.exists() and not left_behind(target) and not (target / INSIDE).exists()


def left_behind(target: Path) -> list[Path]:
    return [path for path in target.parent.iterdir() if path.name.startswith(".answers")]


def check(target: Path, seen: Path, kills: int) -> None:
    """That every row has its answer, once, and how many were computed; then all of it is removed."""
    back = (pa.csv.read_csv if target.suffix == ".csv" else pa.parquet.read_table)(target).to_pydict()
    assert [int(number) for number in back["id"]] == back["row"] == list(range(ROWS))
    assert [round(y) for y in back["y"]] == [3 * (row % 1000) + 3 for row in range(ROWS)]
    assert ROWS <= sum(map(int, seen.read_text().split())) <= ROWS + kills * WORKERS * SHARD_ROWS
    assert not left_behind(target)
    seen.unlink()
    shutil.rmtree(target) if target.is_dir() else target.unlink()
