"""The checkpoint beside the answers: what is in it is believed only as far as it holds, and nothing of others is touched."""

import itertools
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from foretell.errors import Setup
from foretell.modes.files import Options, predict
from foretell.modes.files.ledger import difference
from tests.modes.files.dying import ALONE, ROWS, SETTINGS, run_and_die, unfinished
from tests.modes.files.models import Only, features, pipeline
from tests.modes.files.test_predict import write_rows


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        ({"where": ""}, {"where": "a > 1"}, "where changed since: it was nothing, now it is a > 1"),
        ({"keep": ["a"]}, {"keep": []}, 'keep changed since: it was ["a"], now it is nothing'),
        ({"model": {"m": "1", "n": "1"}}, {"model": {"m": "1", "n": "2"}}, "the model n was changed since"),
        ({"model": {"m": "1"}}, {"model": {"n": "1"}}, "model changed since: it was m, now it is n"),
        (
            {"input": {"source": "lake", "files": 2, "digest": "a"}},
            {"input": {"source": "lake", "files": 3, "digest": "b"}},
            "lake was changed since: it had 2 files, now it has 3",
        ),
        (
            {"input": {"source": "lake", "files": 2, "digest": "a"}},
            {"input": {"source": "lake", "files": 2, "digest": "b"}},
            "a file of lake was changed since",
        ),
        ({"limit": 1}, {"limit": 1}, None),
    ],
)
def test_what_is_not_as_it_was_is_told_in_words(found: dict[str, Any], wanted: dict[str, Any], words: str | None) -> None:
    assert difference(found, wanted) == words


def test_a_record_whose_part_is_gone_or_cut_is_not_believed(tmp_path: Path) -> None:
    source, target = unfinished(tmp_path)
    parts = sorted((tmp_path / ".answers.csv.foretell").glob("*.csv"))
    parts[0].write_bytes(parts[0].read_bytes()[:-1])
    report = predict(pipeline(Only()), source, target, SETTINGS)
    assert report.rows == ROWS
    assert report.resumed == 40 * (len(parts) - 1)
    assert target.read_bytes().count(b"\n") == ROWS + 1


@pytest.mark.parametrize("is_link", [True, False])
def test_a_checkpoint_that_is_a_link_or_no_folder_is_refused_and_nothing_beyond_is_touched(
    tmp_path: Path, is_link: bool
) -> None:
    source = write_rows(tmp_path / "rows.csv", features(3))
    (tmp_path / "elsewhere").mkdir()
    precious = tmp_path / "elsewhere" / "0000001.csv"
    precious.write_text("precious")
    kept = tmp_path / ".answers.csv.foretell"
    kept.symlink_to("elsewhere") if is_link else kept.write_text("mine")
    with pytest.raises(Setup, match=r"is a link|is no folder") as refusal:
        predict(pipeline(Only()), source, tmp_path / "answers.csv", SETTINGS)
    assert refusal.value.code == "wrong_target"
    assert precious.read_text() == "precious"
    assert os.path.lexists(kept)


def test_files_of_others_in_a_checkpoint_stay(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.csv", features(3))
    kept = tmp_path / ".answers.csv.foretell"
    kept.mkdir()
    (kept / "notes.txt").write_text("mine")
    (tmp_path / "other").write_text("other")
    (kept / "link").symlink_to("../other")
    predict(pipeline(Only()), source, tmp_path / "answers.csv", SETTINGS, Options(restart=True))
    assert sorted(path.name for path in kept.iterdir() if path.name != "lock") == ["link", "notes.txt"]
    assert (tmp_path / "other").read_text() == "other"


@pytest.mark.parametrize("damage", ["cut", "empty", "no UTF-8", "other index", "other part", "other errors", "part replaced"])
def test_a_damaged_record_or_a_replaced_part_is_done_again(tmp_path: Path, damage: str) -> None:
    source, target = unfinished(tmp_path)
    whole = predict(pipeline(Only()), source, tmp_path / "whole.csv", SETTINGS).target.read_bytes()
    (tmp_path / "outside.csv").write_bytes(b"z_0\n1\n")
    kept = tmp_path / ".answers.csv.foretell"
    record, part = kept / "0000000.done.json", kept / "0000000.csv"
    data = record.read_bytes()
    changes = {
        "cut": data[:20],
        "empty": b"",
        "no UTF-8": b'{"index":0,"part":"\xff"}',
        "other index": data.replace(b'"index":0', b'"index":1'),
        "other part": data.replace(b'"part":"', b'"part":"../.answers.csv.foretell/'),
        "other errors": data.replace(b'"errors":""', b'"errors":"../rows.csv"'),
    }
    record.write_bytes(changes.get(damage, data))
    if damage == "part replaced":
        part.write_bytes(b"9" * part.stat().st_size)
    else:
        assert record.read_bytes() != data
    assert predict(pipeline(Only()), source, target, SETTINGS).rows == ROWS
    assert target.read_bytes() == whole


def test_a_folder_where_the_plan_belongs_is_named(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.csv", features(3))
    (tmp_path / ".answers.csv.foretell" / "plan.json").mkdir(parents=True)
    with pytest.raises(Setup, match=r"plan\.json is a folder.*move it away") as refusal:
        predict(pipeline(Only()), source, tmp_path / "answers.csv", SETTINGS)
    assert refusal.value.code == "wrong_target"


@pytest.mark.parametrize("out", ["answers.csv", "answers/"])
def test_a_run_that_is_killed_while_it_tidies_up_computes_nothing_again(tmp_path: Path, out: str) -> None:
    source, tidied = write_rows(tmp_path / "rows.csv", features(ROWS)), 0
    for moment in itertools.count(8):
        folder = tmp_path / str(moment)
        folder.mkdir()
        if run_and_die(moment, partial(predict, pipeline(Only()), source, f"{folder}/{out}", ALONE)) == 0:
            break
        if not list(folder.rglob("over.json")):
            continue
        report = predict(pipeline(Only()), source, f"{folder}/{out}", ALONE)
        assert (report.rows, report.resumed) == (ROWS, ROWS)
        assert not list(folder.rglob("over.json"))
        tidied += 1
    assert tidied > 3


@pytest.mark.parametrize("out", ["answers.csv", "answers/"])
def test_answers_that_are_lost_before_a_run_had_tidied_up_are_computed_again(tmp_path: Path, out: str) -> None:
    source = write_rows(tmp_path / "rows.csv", features(ROWS))
    for moment in itertools.count(8):
        folder = tmp_path / str(moment)
        folder.mkdir()
        assert run_and_die(moment, partial(predict, pipeline(Only()), source, f"{folder}/{out}", ALONE)) == -signal.SIGKILL
        if list(folder.rglob("over.json")):
            break
    lost = folder / out if out == "answers.csv" else min((folder / out).glob("part-*"))
    lost.unlink()
    assert predict(pipeline(Only()), source, f"{folder}/{out}", ALONE).rows == ROWS
    assert lost.exists()
