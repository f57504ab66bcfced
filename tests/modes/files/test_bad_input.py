"""What broken files, full disks and slow models do to a run: named, nothing lost, nothing half-written."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from foretell.errors import Busy, Setup, Unavailable
from foretell.modes.files import Options, predict
from foretell.modes.files.patience import Patient
from foretell.settings import PredictSettings
from foretell.tensors import Arrays
from tests.modes.files.models import ONE_WORKER, Only, Sum, features, pipeline, table
from tests.modes.files.test_predict import write_rows

SETTINGS = PredictSettings(batch_rows=16, shard_rows=20, workers=2)


def answers(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        "x_0,x_1,x_2\r\n1,2,3\n4,5,6\r7,8,9\r\n",
        "\ufeffx_0,x_1,x_2\n1,2,3\n\n4,5,6\n7,8,9",
        '\n"x_0","x_1","x_2"\n"1",2,3\n4,"5",6\n\n\n7,8,"9"',
        "x_0,x_1,x_2\r1,2,3\r4,5,6\r7,8,9",
    ],
    ids=["mixed line ends", "a BOM and blank lines", "quotes", "carriage returns alone"],
)
def test_csv_is_read_however_its_lines_end(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.csv").write_bytes(text.encode())
    for rows in (1, 2, 100):
        settings = PredictSettings(shard_rows=rows, workers=1)
        predict(pipeline(Sum()), tmp_path / "rows.csv", tmp_path / "a.ndjson", settings)
        assert [(row["row"], row["y"]) for row in answers(tmp_path / "a.ndjson")] == [(0, 6.0), (1, 15.0), (2, 24.0)]


def test_a_quoted_cell_across_lines_is_one_row_wherever_the_file_is_cut(tmp_path: Path) -> None:
    cells = ['"a\nb"', '"c ""d""\r\n\n"', "plain", '""', '5" pipe']
    lines = [f"{cells[at % 5]},{at},2,3\n" for at in range(40)]
    (tmp_path / "rows.csv").write_bytes(("note,x_0,x_1,x_2\n" + "".join(lines)).encode())
    settings = PredictSettings(shard_rows=3, workers=2)
    predict(pipeline(Sum()), tmp_path / "rows.csv", tmp_path / "a.ndjson", settings, Options(keep=("note",)))
    rows = answers(tmp_path / "a.ndjson")
    assert [(row["row"], row["y"]) for row in rows] == [(at, at + 5.0) for at in range(40)]
    assert [row["note"] for row in rows[:5]] == ["a\nb", 'c "d"\r\n\n', "plain", "", '5" pipe']


def test_rows_of_the_wrong_length_keep_their_numbers_in_every_shard(tmp_path: Path) -> None:
    lines = [f"{at},2\n" if at in (5, 21, 22) else f"{at},2,3\n" for at in range(30)]
    (tmp_path / "rows.csv").write_text("x_0,x_1,x_2\n" + "".join(lines))
    report = predict(pipeline(Sum()), tmp_path / "rows.csv", tmp_path / "a.ndjson", SETTINGS)
    assert [row["row"] for row in answers(tmp_path / "a.ndjson")] == [at for at in range(30) if at not in (5, 21, 22)]
    assert report.errors is not None
    assert [row["row"] for row in map(json.loads, report.errors.read_bytes().splitlines())] == [5, 21, 22]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("rows.csv", b"", "is empty"),
        ("rows.parquet", b"", "cannot be read as Parquet"),
        ("rows.npy", b"", "cannot be read"),
        ("rows.npz", b"PK", "cannot be read"),
        ("rows.csv", b"a,b\n1,2\n", "did you mean|they have"),
        ("rows.csv", b"\xff\xfe,b\n", "header that cannot be read"),
    ],
)
def test_a_file_that_holds_nothing_of_use_is_refused_by_name(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Setup, match=words):
        predict(pipeline(Sum()), tmp_path / name, tmp_path / "a.ndjson", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_truncated_parquet_file_among_whole_ones_is_named_and_what_was_done_is_kept(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        pa.parquet.write_table(table(features(30)), tmp_path / "in" / f"{name}.parquet")
    whole = (tmp_path / "in" / "b.parquet").read_bytes()
    (tmp_path / "in" / "b.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Setup, match=r"b\.parquet cannot be read as Parquet") as refusal:
        predict(pipeline(Only()), tmp_path / "in", tmp_path / "a.ndjson", PredictSettings(workers=1, shard_rows=20))
    assert refusal.value.code == "broken_file"
    assert not (tmp_path / "a.ndjson").exists()


def test_a_column_of_another_type_is_refused_by_both_names(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"x_0": ["a"], "x_1": [1.0], "x_2": [1.0]}), tmp_path / "rows.parquet")
    with pytest.raises(Setup, match="'x_0' is string, but input x FP32"):
        predict(pipeline(Only()), tmp_path / "rows.parquet", tmp_path / "a.ndjson", SETTINGS)


@contextlib.contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A disk of its own. Skips where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_disk_that_fills_what_was_done_is_kept_and_the_rest_follows_when_there_is_room(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.npy", features(20_000))
    settings = PredictSettings(batch_rows=500, shard_rows=2000, workers=1)
    with small_disk(tmp_path / "disk", 2048) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1_850_000))
        with pytest.raises(Setup, match=r"No space left on device.*run it again") as refusal:
            predict(pipeline(Only()), source, disk / "a.npy", settings)
        assert refusal.value.code == "wrong_target"
        assert not (disk / "a.npy").exists()
        ballast.unlink()
        report = predict(pipeline(Only()), source, disk / "a.npy", settings)
        assert report.resumed > 0
        np.testing.assert_array_equal(np.load(disk / "a.npy"), features(20_000) * 2)


class Unsteady(Only):
    """Is busy the first ``times`` times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def forward(self, inputs: Arrays) -> Arrays:
        self.times -= 1
        if self.times >= 0:
            raise Busy("queue_full", "come again")
        return super().forward(inputs)


def test_what_may_pass_is_tried_again_after_growing_pauses() -> None:
    pauses: list[float] = []
    patient = Patient(pipeline(Unsteady(3)), 3, 0.0, pauses.append)
    assert len(patient({"x": features(2)})["z"]) == 2
    assert pauses == [0.2, 0.4, 0.8]
    with pytest.raises(Busy):
        Patient(pipeline(Unsteady(3)), 2, 0.0, pauses.append)({"x": features(2)})


def test_a_run_stops_where_a_model_stays_away_and_goes_on_from_there(tmp_path: Path) -> None:
    class Leaves(Only):
        calls = 0

        def forward(self, inputs: Arrays) -> Arrays:
            self.calls += 1
            if self.calls > 3:
                raise Unavailable("model_crashed", "it is gone")
            return super().forward(inputs)

    source = write_rows(tmp_path / "rows.npy", features(90))
    settings = PredictSettings(batch_rows=20, shard_rows=20, workers=1, retries=0)
    with pytest.raises(Unavailable, match="it is gone"):
        predict(pipeline(Leaves()), source, tmp_path / "a.npy", settings)
    assert predict(pipeline(Only()), source, tmp_path / "a.npy", settings).resumed == 60


def test_a_row_that_takes_too_long_is_set_aside_and_its_neighbours_are_answered(tmp_path: Path) -> None:
    free = threading.Event()

    class Hangs(Only):
        thread_safe = True

        def forward(self, inputs: Arrays) -> Arrays:
            if (np.asarray(inputs["x"]) == 666).any():
                free.wait(60)
            return super().forward(inputs)

    values = features(20)
    values[13, 1] = 666
    source = write_rows(tmp_path / "rows.npy", values)
    settings = PredictSettings(batch_rows=8, workers=1, row_timeout_s=0.2)
    try:
        report = predict(pipeline(Hangs()), source, tmp_path / "a.ndjson", settings)
    finally:
        free.set()
    assert [row["row"] for row in answers(tmp_path / "a.ndjson")] == [at for at in range(20) if at != 13]
    assert report.errors is not None
    (bad,) = map(json.loads, report.errors.read_bytes().splitlines())
    assert (bad["row"], bad["code"]) == (13, "deadline_passed")


@pytest.mark.parametrize("out", ["a.csv", "a.npy"])
def test_kept_columns_that_are_not_there_are_refused_before_anything_is_written(tmp_path: Path, out: str) -> None:
    source = write_rows(tmp_path / "rows.csv", features(3))
    with pytest.raises(Setup, match=r"--keep x_9.*did you mean") as refusal:
        predict(pipeline(Only()), source, tmp_path / out, ONE_WORKER, Options(keep=("x_9",)))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert refusal.value.code == "wrong_keep"


def test_columns_that_could_be_kept_are_shown_in_their_own_order_and_not_all_of_them(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text(",".join(f"x_{i}" for i in range(20)) + "\n")
    with pytest.raises(Setup, match=r"they have 'x_0', 'x_1', .*'x_11', …\.$"):
        predict(pipeline(Only()), source, tmp_path / "a.csv", ONE_WORKER, Options(map={"x": "x_0,x_1,x_2"}, keep=("nosuch",)))
