"""A run that is killed at any moment: the same call again gives every row once, and does little of it twice."""

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from foretell.errors import Setup
from foretell.modes.files import Options, predict
from foretell.modes.files.ledger import Ledger
from foretell.modes.files.run import Task
from foretell.modes.files.shard import Done, Shard
from foretell.settings import PredictSettings
from foretell.tensors import Arrays
from tests.modes.files.dying import ROWS, SETTINGS, SHARD_ROWS, run_and_die, unfinished
from tests.modes.files.models import Only, features, pipeline
from tests.modes.files.test_predict import write_rows


class Counted(Only):
    """Notes in a file how many rows it has seen, whichever process it lives in."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def forward(self, inputs: Arrays) -> Arrays:
        os.write(self.log, f"{len(inputs['x'])}\n".encode())
        return super().forward(inputs)


@pytest.mark.parametrize(("first", "out"), [(1, "csv"), (2, "ndjson"), (3, "parquet"), (4, "npy")])
def test_killed_at_every_fourth_moment_a_run_ends_with_every_row_once(tmp_path: Path, first: int, out: str) -> None:
    rows = 2 * SHARD_ROWS + 5
    values = features(rows)
    values[77, 1] = 666
    source = write_rows(tmp_path / "rows.csv", values)
    whole = predict(pipeline(Only()), source, tmp_path / f"whole.{out}", SETTINGS)
    assert whole.errors is not None
    for moment in range(first, 100, 4):
        target = tmp_path / f"answers{moment}.{out}"
        status = run_and_die(moment, partial(predict, pipeline(Only()), source, target, SETTINGS))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        report = predict(pipeline(Only()), source, target, SETTINGS)
        assert target.read_bytes() == whole.target.read_bytes()
        assert Path(f"{target}.errors.ndjson").read_bytes() == whole.errors.read_bytes()
        assert (report.rows, report.failed) == (rows - 1, 1)
    assert moment > 10
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_run_taken_up_again_does_at_most_one_shard_a_worker_twice(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.npy", features(ROWS))
    log, target = tmp_path / "log", tmp_path / "answers.npy"
    deaths = 0
    for moment in range(4, 8):
        deaths += run_and_die(moment, lambda: predict(pipeline(Counted(log)), source, target, SETTINGS)) < 0
    report = predict(pipeline(Counted(log)), source, target, SETTINGS)
    np.testing.assert_array_equal(np.load(target), features(ROWS) * 2)
    computed = sum(map(int, log.read_text().split()))
    assert deaths
    assert report.rows == ROWS
    assert computed <= ROWS + deaths * SETTINGS.workers * SHARD_ROWS


def everything(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_the_report_tells_what_a_run_before_has_done(tmp_path: Path) -> None:
    source, target = unfinished(tmp_path)
    report = predict(pipeline(Only()), source, target, SETTINGS)
    assert report.rows == ROWS
    assert 0 < report.resumed < ROWS


@pytest.mark.parametrize("change", ["input", "model", "settings"])
def test_a_run_of_something_else_is_not_taken_up_but_begun_anew_on_demand(tmp_path: Path, change: str) -> None:
    source, target = unfinished(tmp_path)
    options = Options()
    if change == "input":
        write_rows(source, features(ROWS) + 1)
    elif change == "model":
        options = Options(fingerprints={"": "another"})
    else:
        options = Options(limit=100)
    words = {
        "input": f"the file {source} was changed",
        "model": "model changed since",
        "settings": "it was nothing, now it is 100",
    }
    before = everything(tmp_path)
    with pytest.raises(Setup, match=words[change]) as refusal:
        predict(pipeline(Only()), source, target, SETTINGS, options)
    assert everything(tmp_path) == before
    assert refusal.value.code == "changed_run"
    assert "--restart" in refusal.value.message
    anew = Options(**{**vars(options), "restart": True})
    report = predict(pipeline(Only()), source, target, SETTINGS, anew)
    assert report.resumed == 0
    assert report.rows == (100 if change == "settings" else ROWS)


def test_a_refused_run_into_a_folder_leaves_what_another_has_done(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.csv", features(ROWS))
    target = f"{tmp_path}/answers/"
    one = PredictSettings(batch_rows=16, shard_rows=SHARD_ROWS, workers=1)
    assert run_and_die(9, lambda: predict(pipeline(Only()), source, target, one)) == -signal.SIGKILL
    before = everything(tmp_path)
    assert len(list((tmp_path / "answers" / "_foretell").glob("*.done.json"))) > 0
    with pytest.raises(Setup, match="holds an unfinished run"):
        predict(pipeline(Only()), source, target, SETTINGS, Options(keep=("x_0",)))
    assert everything(tmp_path) == before
    assert predict(pipeline(Only()), source, target, SETTINGS).resumed > 0


def test_a_run_refused_before_the_first_shard_of_another_is_done_leaves_its_key(tmp_path: Path) -> None:
    folder = tmp_path / ".answers.csv.foretell"
    folder.mkdir()
    (folder / "plan.json").write_text('{"limit": 1}')
    (folder / "lock").touch()
    before = everything(tmp_path)
    with pytest.raises(Setup, match="holds an unfinished run"):
        Ledger(folder, folder, lambda *, restart: None, lambda done: False).begin({"limit": 2}, restart=False)
    assert everything(tmp_path) == before
    with contextlib.closing(
        Ledger(folder, folder, lambda *, restart: None, lambda done: False).begin({"limit": 1}, restart=False)
    ):
        with pytest.raises(Setup, match="locked"):
            Ledger(folder, folder, lambda *, restart: None, lambda done: False).begin({"limit": 1}, restart=False)
        assert everything(tmp_path) == before


def test_two_runs_at_once_into_one_target_are_refused(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.npy", features(3))

    class Second(Only):
        refusal: Setup | None = None

        def forward(self, inputs: Arrays) -> Arrays:
            if self.refusal is None:
                with pytest.raises(Setup) as refusal:
                    predict(pipeline(Only()), source, tmp_path / "answers.npy", SETTINGS)
                self.refusal = refusal.value
            return super().forward(inputs)

    model = Second()
    assert predict(pipeline(model), source, tmp_path / "answers.npy", SETTINGS).rows == 3
    assert model.refusal is not None
    assert model.refusal.code == "busy_target"


def test_what_was_answered_before_too_many_rows_failed_is_kept(tmp_path: Path) -> None:
    values = features(ROWS)
    values[100:104, 1] = 666
    source = write_rows(tmp_path / "rows.csv", values)
    strict = PredictSettings(batch_rows=16, shard_rows=SHARD_ROWS, workers=1, max_errors=2)
    with pytest.raises(Setup, match="rows failed, --max-errors allows 2") as refusal:
        predict(pipeline(Only()), source, tmp_path / "answers.csv", strict)
    assert refusal.value.code == "too_many_errors"
    assert re.search(r"the last is row 10[23]: \S+", refusal.value.message)
    loose = PredictSettings(batch_rows=16, shard_rows=SHARD_ROWS, workers=1, max_errors=4)
    report = predict(pipeline(Only()), source, tmp_path / "answers.csv", loose)
    assert (report.rows, report.failed) == (ROWS - 4, 4)
    assert report.resumed in (80, 120)  # the shard with the rows that failed may have come to its end
    assert report.errors is not None
    lines = [json.loads(line) for line in report.errors.read_bytes().splitlines()]
    assert [line["row"] for line in lines] == [100, 101, 102, 103]


def in_folder(tmp_path: Path) -> tuple[Path, str, list[bytes]]:
    """A source, a folder for its answers, and what the files of such a folder have to hold."""
    source = write_rows(tmp_path / "rows.csv", features(2 * SHARD_ROWS + 5))
    predict(pipeline(Only()), source, f"{tmp_path}/whole/", SETTINGS)
    return source, f"{tmp_path}/answers/", contents(tmp_path / "whole")


def contents(folder: Path) -> list[bytes]:
    return [part.read_bytes() for part in sorted(folder.glob("part-*"))]


@pytest.mark.parametrize("first", [1, 2])
def test_killed_at_every_second_moment_a_folder_of_answers_is_whole_after_the_same_call(tmp_path: Path, first: int) -> None:
    source, _, whole = in_folder(tmp_path)
    for moment in range(first, 100, 2):
        target = f"{tmp_path}/answers{moment}/"
        if run_and_die(moment, partial(predict, pipeline(Only()), source, target, SETTINGS)) == 0:
            break
        kept = Path(target) / "_foretell"
        if (kept / "plan.json").exists() or not contents(Path(target)):
            predict(pipeline(Only()), source, target, SETTINGS)
            assert not kept.exists()
        assert contents(Path(target)) == whole
    assert moment > 10


def test_an_interrupt_before_any_record_was_taken_over_leaves_a_folder_of_answers_to_go_on_with(tmp_path: Path) -> None:
    source, target, whole = in_folder(tmp_path)

    def interrupted(task: Task, shards: Iterable[Shard]) -> Iterator[Done]:
        task(next(iter(shards)))
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        predict(pipeline(Only()), source, target, SETTINGS, Options(executor=interrupted))
    assert predict(pipeline(Only()), source, target, SETTINGS).resumed == SHARD_ROWS
    assert contents(tmp_path / "answers") == whole


def test_rows_that_failed_in_several_shards_are_told_by_the_file_that_has_the_reasons(tmp_path: Path) -> None:
    values = features(ROWS)
    values[[10, 50, 90], 1] = 666
    source = write_rows(tmp_path / "rows.csv", values)
    strict = PredictSettings(batch_rows=16, shard_rows=SHARD_ROWS, workers=1, max_errors=2)
    with pytest.raises(Setup) as refusal:
        predict(pipeline(Only()), source, tmp_path / "answers.csv", strict)
    found = re.search(r"reasons are in (\S+):", refusal.value.message)
    assert found is not None
    assert json.loads(Path(found[1]).read_bytes())["row"] == 90
