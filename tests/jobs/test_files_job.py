"""The process of a job over files: it keeps to its folders, says how it ended, and how far it is at the end."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from foretell.repository import Repository
from foretell.workers import files_job
from foretell.workers.fence import fence

MODEL = """
import numpy as np
import foretell
@foretell.model(inputs={"x": "FP32"}, outputs={"y": "FP32"})
def model(arrays):
    MORE
    return {"y": arrays["x"] * 2}
"""
FENCED = """
import os, sys, tempfile
from foretell.workers.fence import fence, libraries
if not fence(libraries(), [sys.argv[1]]):
    print("none"); sys.exit()
tempfile.TemporaryFile().close()
os.mkdir(sys.argv[1] + "/new"); os.rmdir(sys.argv[1] + "/new")
for path, mode in (("link", "r"), ("link", "w"), ("there/new", "w"), ("/proc/self/environ", "r"), ("own", "r")):
    try:
        open(os.path.join(sys.argv[1], path), mode).close()
        print("opened")
    except PermissionError:
        print("refused")
import colorsys, wsgiref
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "rows.ndjson").write_text('{"x":1}\n')
    (tmp_path / "data" / "own").write_text("")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "other" / "rows.ndjson")
    (tmp_path / "data" / "there").symlink_to(tmp_path / "other")
    return tmp_path


def test_behind_the_fence_no_link_leads_out(folder: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", FENCED, folder / "data"], capture_output=True, text=True, check=False)
    if ran.stdout.split() == ["none"]:
        pytest.skip("this kernel has no Landlock")
    assert (ran.stderr, ran.stdout.split()) == ("", ["refused"] * 4 + ["opened"])


def _found(paths: list[str]) -> Any:
    return Repository(paths, None).find("double")


def run(folder: Path, input: str, output: str, more: str = "pass") -> list[dict[str, Any]]:
    """All that the process of a job says."""
    (folder / "double.py").write_text(MODEL.replace("MORE", more))
    paths = [f"{folder}/double.py:model"]
    (version,) = [source.version for source in _found(paths).sources]
    data = str(folder / "data")
    told = {
        "job": "j",
        "order": {"model": "double", "version": version, "input": f"{data}/{input}", "output": f"{data}/{output}"},
        "places": {"folders": [os.path.realpath(data)], "prefixes": []},
        "paths": paths,
        "name": None,
        "predict": {},
        "log": {},
    }
    command = [sys.executable, "-m", "foretell.workers.beneath"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(orjson.dumps(told) + b"\n")
        process.stdin.flush()
        return [orjson.loads(line) for line in process.stdout]


def test_the_last_figures_are_told_before_the_end_and_the_folder_is_made(folder: Path) -> None:
    (folder / "data" / "rows.ndjson").write_text('{"x":1}\n{"x":2}\n')
    said = run(folder, "rows.ndjson", "new/sub/answers.ndjson")
    assert "done" in said[-1], said
    told = [each["progress"] for each in said if "progress" in each][-1]
    assert (told["rows"], told["failed"], told["done"]) == (2, 0, 1.0)
    assert (folder / "data" / "new" / "sub" / "answers.ndjson").is_file()


def test_an_output_below_a_file_is_refused_by_its_name(folder: Path) -> None:
    (folder / "data" / "rows.ndjson").write_text('{"x":1}\n')
    said = run(folder, "rows.ndjson", "rows.ndjson/a.ndjson")
    assert said[-1]["failed"]["code"] == "wrong_target", said
    assert "rows.ndjson cannot be a folder" in str(said[-1]["failed"])


@pytest.mark.parametrize(("input", "output"), [("link", "a.ndjson"), ("*", "a.ndjson"), ("own", "there/a.ndjson"), ("own", "")])
def test_a_link_that_leads_out_ends_the_job(folder: Path, input: str, output: str) -> None:
    said = run(folder, input, output)
    assert said[-1]["failed"]["code"] == "place_not_listed", said
    assert sorted(path.name for path in (folder / "other").iterdir()) == ["rows.ndjson"]


def test_a_link_put_there_after_the_check_is_not_followed(folder: Path) -> None:
    (folder / "data" / "link").unlink()
    rows = folder / "data" / "rows"
    rows.mkdir()
    for number in range(3):
        (rows / f"{number}.ndjson").write_text('{"x":1}\n' * 3)
    secret = folder / "other" / "rows.ndjson"
    secret.write_text('{"x":21}\n' * 3)
    late = rows / "2.ndjson"
    swap = f'import os; os.path.islink("{late}") or (os.unlink("{late}"), os.symlink("{secret}", "{late}"))'
    said = run(folder, "rows", "answers.ndjson", swap)
    answers = folder / "data" / "answers.ndjson"
    assert not answers.exists() or b"42" not in answers.read_bytes(), said


def test_a_mistake_of_ours_is_how_the_job_ends_and_its_log_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(told: object, say: object) -> dict[str, Any]:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(files_job, "answer", wrong)
    monkeypatch.setattr(files_job, "configure", lambda settings: None)
    monkeypatch.setattr(files_job.log, "handlers", [])  # what it adds is for a process of its own
    reading, writing = os.pipe()
    say = files_job.Voice(writing)
    files_job.do(b'{"job": "j", "log": {}}', say)
    say.stream.close()
    said = [orjson.loads(line) for line in os.read(reading, 10_000).splitlines()]
    assert said[-1]["failed"]["code"] == "internal"
    assert "ZeroDivisionError" in said[0]["log"]
    os.close(reading)


def test_there_is_a_way_without_a_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not fence([], [])
