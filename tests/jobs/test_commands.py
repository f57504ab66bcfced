"""``foretell jobs`` against a real server, and every line of docs/jobs.md that can be run."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

import foretell.demo
from tests.serving import MODELS, Served, serving

ROOT = Path(foretell.demo.__file__).parents[2]
DEMO = Path(foretell.demo.__file__).parent / "models"
KEY = "k" * 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    (folder / "key.txt").write_text(KEY + "\n")
    (folder / "data").mkdir()
    page = orjson.loads((DEMO.parent / "inputs" / "phishing.json").read_bytes())
    lines = [",".join(page), *(",".join(str(value) for value in page.values()) for _ in range(3))]
    (folder / "data" / "pages.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    flags = ("--jobs-state-folder", str(folder / "state"), "--jobs-paths", str(folder / "data"), "--jobs-poll-s", "0.05")
    models = {"double": MODELS["double"]}
    with serving(folder, *flags, models=models, paths=[DEMO], environ={"FORETELL_ADMIN_KEY": KEY}) as served:
        yield served


def foretell_jobs(
    served: Served, folder: Path, verb: str, *arguments: str, key: bool = True
) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "foretell", "jobs", verb, f"http://127.0.0.1:{served.port}", *arguments]
    line += ["--key-file", str(folder / "key.txt")] if key else []
    return subprocess.run(line, capture_output=True, text=True, timeout=90)


def submit(served: Served, folder: Path, rows: str, name: str, *more: str) -> "subprocess.CompletedProcess[str]":
    source = folder / "data" / f"{name}.ndjson"
    source.write_text(rows)
    return foretell_jobs(
        served, folder, "submit", "double", str(source), "-o", str(folder / "data" / f"{name}.out.ndjson"), *more
    )


def test_a_job_is_submitted_watched_and_ends_with_its_own_code(served: Served, folder: Path) -> None:
    good = submit(served, folder, '{"x":[1,2]}\n{"x":[3,4]}\n', "good", "--watch")
    assert (good.returncode, good.stderr) == (0, good.stderr)
    assert re.fullmatch("[0-9a-f]{48}\n", good.stdout)
    assert good.stderr.startswith(("waiting\n", "running"))
    assert "2 rows answered" in good.stderr


def test_failed_rows_end_it_with_3_and_are_retried(served: Served, folder: Path) -> None:
    some = submit(served, folder, '{"x":[1,2]}\n{"x":[1]}\n', "some", "--watch")
    assert some.returncode == 3
    assert "1 failed" in some.stderr
    again = foretell_jobs(served, folder, "retry", some.stdout.strip(), "--watch")
    assert again.returncode == 3


def test_a_job_that_fails_ends_it_with_1_and_says_why(served: Served, folder: Path) -> None:
    missing = foretell_jobs(
        served, folder, "submit", "double", f"{folder}/data/no.csv", "-o", f"{folder}/data/a.csv", "--watch"
    )
    assert missing.returncode == 1
    assert "no.csv" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("cancel", "0" * 48), "unknown_job"),
        (("watch", "../../etc/passwd"), "foretell: "),
        (("submit", "nosuch", "/a.csv", "-o", "/b.csv"), "unknown_model"),
        (("submit", "double", "a.csv", "-o", "b.csv"), "begins with /"),
        (("submit", "double", "/etc/passwd", "-o", "/b.csv"), "jobs.paths"),
        (("list", "--state", "lost"), "waiting"),
    ],
)
def test_what_is_refused_is_a_sentence_that_says_what_to_do(
    served: Served, folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    told = foretell_jobs(served, folder, *arguments)
    assert told.returncode == 1
    assert says in told.stderr
    assert "what to do: " in told.stderr
    assert "Traceback" not in told.stderr


def test_without_the_key_nothing_is_listed(served: Served, folder: Path) -> None:
    told = foretell_jobs(served, folder, "list", key=False)
    assert (told.returncode, told.stdout) == (1, "")
    assert "wrong_key" in told.stderr


def test_jobs_are_listed_for_people_and_for_programs(served: Served, folder: Path) -> None:
    id = submit(served, folder, '{"x":[1,2]}\n', "listed", "--watch").stdout.strip()
    assert id in foretell_jobs(served, folder, "list", "--limit", "5").stdout
    listed = orjson.loads(foretell_jobs(served, folder, "list", "--json", "--state", "done").stdout)
    assert id in [job["id"] for job in listed]


def test_the_lines_of_the_page_work(served: Served, folder: Path, tmp_path: Path) -> None:
    blocks = re.findall("^```sh\n(.*?)^```", (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [block for block in blocks if "foretell serve" not in block]
    assert len(lines) == 4
    (tmp_path / "foretell").write_text(f'#!/bin/sh\nexec {sys.executable} -m foretell "$@"\n')
    (tmp_path / "foretell").chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for line in lines:
        script = line.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}").replace("/data/", f"{folder}/data/")
        script = script.replace("key.txt", str(folder / "key.txt")).replace("accepted.txt", str(tmp_path / "accepted.txt"))
        run = subprocess.run(["/bin/sh", "-ec", script], capture_output=True, text=True, timeout=90, cwd=ROOT, env=environ)
        assert run.returncode == 0, (script, run.stdout, run.stderr)
        if "prefer: wait" in line:
            assert "phishing_probability" in run.stdout
