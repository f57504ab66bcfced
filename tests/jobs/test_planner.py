"""Schedules make jobs: one for each tick and each file, however many processes look and however often they start anew."""

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from foretell.errors import Denied, Missing
from foretell.jobs.job import Job, State
from foretell.jobs.limits import Limits
from foretell.jobs.orders import FilesOrder
from foretell.jobs.planner import Planner, Specify
from foretell.jobs.schedules import read_schedules
from foretell.jobs.store import JobStore, open_store
from foretell.testing import FakeClock

DAY_S = 86_400.0
CRON = """
[[schedule]]
name = "nightly"
cron = "30 2 * * *"
time_zone = "Europe/Berlin"
model = "digits"
input = "/in/{day_before}"
output = "/out/{date}-{time}-{tick}"
"""
INBOX = """
[[schedule]]
name = "inbox"
folder = "FOLDER"
pattern = "*.csv"
model = "digits"
output = "/out/{path}.parquet"
"""
Start = Callable[..., Planner]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp())


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Iterator[JobStore]:
    opened = open_store(str(tmp_path / "state"), clock)
    yield opened
    opened.close()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def start(tmp_path: Path, inbox: Path, store: JobStore, clock: FakeClock) -> Start:
    """Starts to plan what a text says, as a process does that has just begun."""

    def planner(text: str, specify: Specify = msgspec.json.encode, waiting: int = 1000) -> Planner:
        file = tmp_path / "schedules.toml"
        file.write_text(text.replace("FOLDER", str(inbox)))
        return Planner(read_schedules(file), store, specify, Limits(waiting=waiting, keep_s=60.0), clock)

    return planner


def orders(jobs: list[Job]) -> list[tuple[str, str]]:
    """Input and output of each job."""
    told = [json.loads(job.spec) for job in jobs]
    return [(order["input"], order["output"]) for order in told]


def looks(planner: Planner, clock: FakeClock, times: int = 2) -> list[Job]:
    """The new jobs of some looks, each after all have waited long enough."""
    new = []
    for _ in range(times):
        clock.now += 10
        new += planner.look()
    return new


def test_a_tick_makes_a_job_whose_paths_tell_the_time(start: Start, clock: FakeClock, store: JobStore) -> None:
    planner = start(CRON)
    assert planner.look() == []
    clock.now = datetime(2026, 11, 30, 1, 29, 59, tzinfo=UTC).timestamp()
    assert planner.look() == []
    clock.now += 1
    (job,) = planner.look()
    assert orders([job]) == [("/in/2026-11-29", "/out/2026-11-30-0230-20261130T013000Z")]
    assert (job.kind, job.priority, job.due_at, store.get(job.id)) == ("files", 3, clock.now, job)
    assert planner.look() == []


def test_a_tick_is_one_job_for_all_processes(start: Start, clock: FakeClock, store: JobStore) -> None:
    planners = [start(CRON) for _ in range(4)]
    assert [planner.look() for planner in planners] == [[]] * 4
    clock.now += DAY_S
    with ThreadPoolExecutor(4) as pool:
        new = [job for jobs in pool.map(Planner.look, planners) for job in jobs]
    assert len(new) == 1
    assert store.counts()[State.WAITING] == 1


def test_a_schedule_that_is_new_makes_up_for_nothing(start: Start, store: JobStore) -> None:
    assert start(CRON).look() == []
    assert (list(store.list()), sum(store.counts().values())) == ([], 0)


def test_ticks_missed_while_no_server_ran_are_made_up_for_once(start: Start, clock: FakeClock) -> None:
    start(CRON).look()
    clock.now += 5 * DAY_S
    assert [output for _, output in orders(start(CRON).look())] == ["/out/2026-12-04-0230-20261204T013000Z"]
    assert start(CRON).look() == []


def test_missed_ticks_may_be_skipped(start: Start, clock: FakeClock) -> None:
    skipping = CRON + 'missed = "skip"\n'
    start(skipping).look()
    clock.now += 5 * DAY_S
    again = start(skipping)
    assert again.look() == []
    clock.now += DAY_S
    assert len(again.look()) == 1


def test_a_tick_is_not_done_again_after_its_job_is_forgotten(start: Start, clock: FakeClock, store: JobStore) -> None:
    start(CRON).look()
    clock.now += DAY_S
    (job,) = start(CRON).look()
    store.cancel(job.id)
    clock.now += 3600
    assert store.delete_expired() == 1
    assert store.get(job.id) is None
    assert start(CRON).look() == []


def test_a_changed_time_makes_a_new_schedule(start: Start, clock: FakeClock) -> None:
    start(CRON).look()
    clock.now += DAY_S
    assert start(CRON.replace("30 2", "0 9")).look() == []


def test_a_tick_is_tried_again_while_its_model_is_not_there(
    start: Start, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    models: set[str] = set()

    def specify(order: FilesOrder) -> bytes:
        if order.model not in models:
            raise Missing("unknown_model", "there is no model 'digits'")
        return msgspec.json.encode(order)

    planner = start(CRON, specify)
    planner.look()
    clock.now += DAY_S
    with caplog.at_level(logging.WARNING):
        assert [planner.look(), planner.look()] == [[], []]
    assert [record.getMessage() for record in caplog.records] == [
        "schedule nightly makes no job now, and tries again: there is no model 'digits'"
    ]
    models.add("digits")
    assert len(planner.look()) == 1


def test_a_file_makes_a_job_once_it_is_whole(start: Start, clock: FakeClock, inbox: Path) -> None:
    planner = start(INBOX)
    file = inbox / "a b.csv"
    file.write_text("x\n1\n")
    assert planner.look() == []
    file.write_text("x\n1\n2\n")  # it is still written
    assert looks(planner, clock, 1) == []
    assert orders(looks(planner, clock, 1)) == [(str(file), "/out/a b.parquet")]
    assert looks(planner, clock) == []


def test_a_folder_is_looked_into_no_more_often_than_it_says(start: Start, clock: FakeClock, inbox: Path) -> None:
    planner = start(INBOX + "every_s = 60\n")
    (inbox / "a.csv").write_text("x\n")
    assert [planner.look() for _ in range(3)] == [[]] * 3
    clock.now += 59
    assert planner.look() == []
    clock.now += 1
    assert len(planner.look()) == 1


def test_other_hidden_and_private_files_are_passed_over(start: Start, clock: FakeClock, inbox: Path) -> None:
    for name in ("a.txt", ".b.csv", "_c.csv"):
        (inbox / name).write_text("x\n")
    (inbox / ".staging").mkdir()
    (inbox / ".staging" / "d.csv").write_text("x\n")
    (inbox / "2026").mkdir()
    (inbox / "2026" / "e.csv").write_text("x\n")
    assert [output for _, output in orders(looks(start(INBOX), clock))] == ["/out/2026/e.parquet"]


def test_a_file_is_one_job_for_all_processes_and_after_every_start(
    start: Start, clock: FakeClock, inbox: Path, store: JobStore
) -> None:
    for number in range(250):
        (inbox / f"{number}.csv").write_text("x\n")
    planners = [start(INBOX) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        new = [job for jobs in pool.map(lambda planner: looks(planner, clock), planners) for job in jobs]
    assert len(new) == len({job.id for job in new}) == 250
    for job in new:
        store.cancel(job.id)
    clock.now += 3600
    assert store.delete_expired() == 250
    assert looks(start(INBOX), clock) == []


def test_a_file_that_changed_makes_another_job(start: Start, clock: FakeClock, inbox: Path) -> None:
    planner = start(INBOX)
    (inbox / "a.csv").write_text("x\n1\n")
    assert len(looks(planner, clock)) == 1
    (inbox / "a.csv").write_text("x\n1\n2\n")
    assert len(looks(planner, clock)) == 1
    assert looks(start(INBOX), clock) == []


def test_files_wait_while_too_many_jobs_do(start: Start, clock: FakeClock, inbox: Path, store: JobStore) -> None:
    for number in range(5):
        (inbox / f"{number}.csv").write_text("x\n")
    planner = start(INBOX, waiting=3)
    assert len(looks(planner, clock)) == 3
    assert looks(planner, clock) == []
    store.claim("anna", ["files"], 2, 30)
    assert len(looks(planner, clock)) == 2


def test_a_folder_that_went_away_stops_no_other_schedule(
    start: Start, clock: FakeClock, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planner = start(INBOX + CRON)
    planner.look()
    inbox.rmdir()
    clock.now += DAY_S
    with caplog.at_level(logging.WARNING):
        assert [output for _, output in orders(looks(planner, clock))] == ["/out/2026-11-30-0230-20261130T013000Z"]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "schedule inbox makes no job now, and tries again"
    ]
    inbox.mkdir()
    (inbox / "a.csv").write_text("x\n")
    assert len(looks(planner, clock)) == 1


def test_one_file_that_may_not_be_read_is_passed_over_and_told_once(
    start: Start, clock: FakeClock, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def specify(order: FilesOrder) -> bytes:
        if order.input.endswith("link.csv"):
            raise Denied("place_not_listed", "a link leads out")
        return msgspec.json.encode(order)

    for name in ("a.csv", "link.csv", "z.csv"):
        (inbox / name).write_text("x\n")
    with caplog.at_level(logging.WARNING):
        assert len(looks(start(INBOX, specify), clock, 6)) == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"schedule inbox passes over the file {str(inbox / 'link.csv')!r}: a link leads out"
    ]


@pytest.mark.parametrize("error", [RecursionError("deep"), KeyError("word"), ValueError("odd"), TypeError("odd")])
def test_a_mistake_in_one_schedule_ends_no_other(start: Start, clock: FakeClock, inbox: Path, error: Exception) -> None:
    def specify(order: FilesOrder) -> bytes:
        if order.input.startswith(str(inbox)):
            raise error
        return msgspec.json.encode(order)

    planner = start(INBOX + CRON, specify)
    (inbox / "a.csv").write_text("x\n")
    planner.look()
    clock.now += DAY_S
    assert len(looks(planner, clock)) == 1


def test_files_that_differ_in_their_suffix_have_outputs_of_their_own(start: Start, clock: FakeClock, inbox: Path) -> None:
    for name in ("a.csv", "a.ndjson"):
        (inbox / name).write_text("x\n")
    told = orders(looks(start(INBOX.replace("*.csv", "*")), clock))
    assert [output for _, output in told] == ["/out/a.csv.parquet", "/out/a.ndjson.parquet"]


def test_a_link_that_leads_back_into_the_folder_makes_no_job_of_its_answers(
    start: Start, clock: FakeClock, inbox: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(inbox)
    (inbox / "sub").mkdir()
    for name in ("a.csv", "sub/b.csv"):
        (inbox / name).write_text("x\n")
    planner = start(INBOX.replace("/out", str(tmp_path / "out")))
    assert [output for _, output in orders(looks(planner, clock))] == [f"{tmp_path}/out/a.parquet"]


def test_trouble_is_told_once_however_long_it_lasts(
    start: Start, clock: FakeClock, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planner = start(INBOX, waiting=1)
    for name in ("a.csv", "b.csv"):
        (inbox / name).write_text("x\n")
    assert len(looks(planner, clock)) == 1
    with caplog.at_level(logging.WARNING):
        looks(planner, clock, 3)
    assert ["too many jobs wait" in record.getMessage() for record in caplog.records] == [True]


def test_a_folder_that_went_away_is_told_once_between_looks_too(
    start: Start, clock: FakeClock, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planner = start(INBOX)
    inbox.rmdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            clock.now += 1
            planner.look()
    assert len(caplog.records) == 1
