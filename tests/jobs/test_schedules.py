"""The file of schedules: what it may say, and what is refused by name before anything starts."""

import re
from pathlib import Path

import pytest

from foretell.errors import Setup
from foretell.jobs.places import Places
from foretell.jobs.schedules import FILE_WORDS, TICK_WORDS, When, check_places, filled, read_schedules

PAGE = Path(__file__).parents[2] / "docs" / "queue.md"

NIGHTLY = """
[[schedule]]
name = "nightly"
cron = "30 2 * * *"
model = "digits"
input = "/data/in/{day_before}"
output = "/data/out/{date}"
"""
INBOX = """
[[schedule]]
name = "inbox"
folder = "/data/inbox"
model = "digits"
output = "/data/out/{path}.parquet"
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "schedules.toml"
    file.write_text(text)
    return file


def test_a_file_may_hold_both_kinds_with_what_jobs_take(tmp_path: Path) -> None:
    more = INBOX + 'pattern = "*.csv"\nevery_s = 2\nmax_errors = 3\nmap = {x = "a"}\npriority = 1\n'
    nightly, inbox = read_schedules(write(tmp_path, NIGHTLY + 'time_zone = "Europe/Berlin"\nmissed = "skip"\n' + more))
    assert nightly.cron is not None
    assert (nightly.cron.expression, nightly.cron.zone.key) == ("30 2 * * *", "Europe/Berlin")
    assert (nightly.when.missed, nightly.order.input) == ("skip", "/data/in/{day_before}")
    assert inbox.cron is None
    assert (inbox.when.pattern, inbox.when.every_s, inbox.order.max_errors, inbox.order.map) == ("*.csv", 2, 3, {"x": "a"})


def test_a_job_that_overwrites_says_so_and_needs_no_date(tmp_path: Path) -> None:
    (schedule,) = read_schedules(write(tmp_path, NIGHTLY.replace("/{date}", "") + "restart = true\n"))
    assert schedule.order.restart


def test_words_in_braces_are_filled_in() -> None:
    assert filled("s3://b/{date}/{stem}.csv", {"date": "2026-11-29", "stem": "{date}"}) == "s3://b/2026-11-29/{date}.csv"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Setup, match=r"no\.toml") as refused:
        read_schedules(tmp_path / "no.toml")
    assert refused.value.code == "missing_file"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[schedule]\n", "cannot be read"),
        ("", "tables"),
        ("schedule = 3", "tables"),
        (NIGHTLY + "[jobs]\n", "tables"),
        (NIGHTLY + NIGHTLY, "'nightly' is the name of two"),
        (NIGHTLY.replace('"nightly"', '"../x"'), "name"),
        (NIGHTLY.replace('name = "nightly"', ""), "'number 1' it missing required field `name`"),
        (NIGHTLY.replace("cron", "#"), "either a cron expression or a folder"),
        (NIGHTLY + 'folder = "/data"\n', "either a cron expression or a folder"),
        (NIGHTLY.replace("30 2", "99 2"), "'99 2 . . .', which cannot be read"),
        (NIGHTLY.replace("30 2 *", "30 2 31").replace("31 * *", "31 2 *"), "cron expression"),
        (NIGHTLY + 'time_zone = "Mars/Olympus"\n', "Mars/Olympus"),
        (NIGHTLY + 'time_zone = "../../etc/passwd"\n', "time zone"),
        (NIGHTLY + 'missed = "all"\n', "missed"),
        (NIGHTLY + "every_s = 5\n", "every_s"),
        (NIGHTLY + "modle = 5\n", "modle"),
        (NIGHTLY.replace('model = "digits"', ""), "model"),
        (NIGHTLY.replace("{date}", "all"), r"\{tick\} or \{date\}"),
        (NIGHTLY.replace("{date}", "{path}"), r"\{path\} in its output"),
        (NIGHTLY.replace("{day_before}", "{}"), r"\{\} in its input"),
        (INBOX + 'input = "/data/in"\n', "'input'"),
        (INBOX + 'missed = "once"\n', "missed"),
        (INBOX + "every_s = 0\n", "every_s"),
        (INBOX.replace("{path}", "all"), "same output"),
        (INBOX.replace("{path}", "{stem}"), "same output"),
        (NIGHTLY + "evry_s = 5\n", "'evry_s', which is no key of a schedule: it has .*every_s"),
        ("a = " + "[" * 30_000, "cannot be read"),
        ("#" * 70_000, "more than 65536 bytes"),
        (NIGHTLY.replace('"nightly"', '"nightly\\n"'), "name"),
        (NIGHTLY.replace("30 2", "* *"), "more than once"),
        (NIGHTLY.replace("30 2", "0 9,17"), "more than once"),
        (NIGHTLY.replace("{date}", "{time}"), "same output every time"),
        (INBOX.replace("/data/out", "/data/inbox/out"), "writes into the folder"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(Setup, match=why) as refused:
        read_schedules(write(tmp_path, text))
    assert refused.value.code == "wrong_schedule"
    assert str(tmp_path / "schedules.toml") in refused.value.message


def test_the_example_of_the_docs_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert [schedule.when.name for schedule in read_schedules(write(tmp_path, example))] == ["nightly", "inbox"]


def test_every_key_and_word_is_in_the_docs() -> None:
    text = PAGE.read_text()
    assert [key for key in When.__struct_fields__ if f"| `{key}` |" not in text] == []
    assert [word for word in (*TICK_WORDS, *FILE_WORDS) if f"`{{{word}}}`" not in text] == []


def test_places_that_are_not_listed_are_refused(tmp_path: Path) -> None:
    schedules = read_schedules(write(tmp_path, NIGHTLY))
    with pytest.raises(Setup, match=r"'nightly' cannot use /data/in/\{day_before\}.*jobs\.paths") as refused:
        check_places(schedules, Places((tmp_path,)))
    assert refused.value.code == "wrong_schedule"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    schedules = read_schedules(write(tmp_path, INBOX.replace("/data", str(tmp_path))))
    with pytest.raises(Setup, match="mkdir -p") as refused:
        check_places(schedules, Places((tmp_path,)))
    assert refused.value.code == "missing_file"
    (tmp_path / "inbox").mkdir()
    check_places(schedules, Places((tmp_path,)))


def test_a_link_to_the_watched_folder_is_no_place_for_its_answers(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "inbox")
    with pytest.raises(Setup, match="writes into the folder"):
        read_schedules(write(tmp_path, INBOX.replace("/data", str(tmp_path))))


def test_a_cron_that_comes_often_may_overwrite_or_tell_its_ticks_apart(tmp_path: Path) -> None:
    often = NIGHTLY.replace("30 2", "* *")
    for text in (often + "restart = true\n", often.replace("{date}", "{tick}"), often.replace("{date}", "{date}T{time}")):
        assert len(read_schedules(write(tmp_path, text))) == 1


def test_the_largest_file_of_dotted_keys_is_refused_soon(tmp_path: Path) -> None:
    text = ".".join(["a"] * 32_000) + " = 1\n"
    with pytest.raises(Setup):
        read_schedules(write(tmp_path, text))
