"""A real server whose workers look after schedules: what comes into a folder is answered, once."""

from pathlib import Path

from tests.jobs.test_survival import answers_of, keeping
from tests.modes.http.test_jobs import ADMIN, get
from tests.serving import Served, eventually

INBOX = """
[[schedule]]
name = "inbox"
folder = "{folder}/data/in"
pattern = "*.ndjson"
every_s = 0.1
model = "rows"
output = "{folder}/data/{{path}}.out.ndjson"
"""


def jobs_of(served: Served) -> list[str]:
    return [job["state"] for job in get(served, "/jobs", ADMIN).json()["jobs"]]


def test_files_that_come_into_a_folder_are_answered_once(tmp_path: Path) -> None:
    inbox = tmp_path / "data" / "in"
    inbox.mkdir(parents=True)
    schedules = tmp_path / "schedules.toml"
    schedules.write_text(INBOX.format(folder=tmp_path))
    with keeping(tmp_path, "--jobs-schedules", str(schedules), names=("rows",)) as served:
        for number in range(2):
            (inbox / f"{number}.ndjson").write_text(f'{{"x":{number}}}\n')
        assert eventually(lambda: jobs_of(served) == ["done"] * 2, 30)
        assert [answers_of(tmp_path / "data" / f"{number}.out.ndjson") for number in range(2)] == [[0.0], [2.0]]
    with keeping(tmp_path, "--jobs-schedules", str(schedules), names=("rows",)) as served:
        (inbox / "deep").mkdir()
        (inbox / "deep" / "2.ndjson").write_text('{"x":2}\n')
        assert eventually(lambda: jobs_of(served) == ["done"] * 3, 30)
        assert answers_of(tmp_path / "data" / "deep" / "2.out.ndjson") == [4.0]
