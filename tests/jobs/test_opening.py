"""What cannot be opened is refused by name; a store that fails while it is used says so, and keeps what it had."""

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from foretell.errors import ForetellError, Setup, Unavailable
from foretell.jobs.job import Job, Outcome, State, new_id
from foretell.jobs.store import JobStore, open_store
from foretell.jobs.stores.sqlite.file import APPLICATION_ID, VERSION, open_file
from foretell.jobs.stores.sqlite.writer import Run, Writer
from tests.jobs.servers import redis_server
from tests.serving import free_port


def make() -> Job:
    now = time.time()
    return Job(new_id(), "request", b"do", now, now)


def fill(store: JobStore) -> None:
    for _ in range(1000):
        store.submit([Job(new_id(), "request", bytes(4096), 0.0, 0.0, ttl_s=0.0)])


def refusal(url: str) -> ForetellError:
    with pytest.raises(ForetellError) as refused:
        open_store(url)
    return refused.value


@pytest.mark.parametrize("url", ["mysql://localhost/jobs", "postgre://localhost/jobs"])
def test_a_store_of_another_kind_is_refused(url: str) -> None:
    error = refusal(url)
    assert error.code == "wrong_setting"
    assert "postgresql" in error.message


def test_a_state_folder_is_made_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    open_store(str(tmp_path / "a" / "state")).close()
    file = tmp_path / "a" / "state" / "jobs.sqlite"
    assert (file.stat().st_mode & 0o077, file.parent.stat().st_mode & 0o077) == (0, 0)


def test_a_file_may_be_named_instead_of_a_folder(tmp_path: Path) -> None:
    open_store(f"sqlite://{tmp_path}/mine.sqlite").close()
    assert (tmp_path / "mine.sqlite").is_file()


def test_a_state_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refusal(str(tmp_path / "file" / "state"))
    assert (type(error), error.code) == (Setup, "store_unusable")
    assert str(tmp_path) in error.message


def test_a_state_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with as_nobody():
        error = refusal(str(tmp_path / "state"))
    assert (type(error), error.code) == (Setup, "store_unusable")


def test_a_file_that_calls_itself_ours_and_has_not_our_tables_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("CREATE TABLE jobs (id TEXT)")
    error = refusal(str(tmp_path))
    assert (error.code, "no table" in error.message) == ("store_unusable", True)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write anywhere, so become somebody who may not."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"not a database, by far" * 100)
    assert refusal(str(tmp_path)).code == "store_unusable"


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "jobs.sqlite"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    other.close()
    before = file.read_bytes()
    assert "another program" in refusal(str(tmp_path)).message
    assert file.read_bytes() == before


def test_what_a_newer_version_wrote_is_refused(fresh: Callable[[], str]) -> None:
    url = fresh()
    open_store(url).close()
    MAKE_NEWER[url.partition(":")[0]](url)
    error = refusal(url)
    assert (type(error), error.code) == (Setup, "store_newer")
    assert "999" in error.message


def newer_sqlite(url: str) -> None:
    with sqlite3.connect(Path(url) / "jobs.sqlite") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()


def newer_postgres(url: str) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("UPDATE foretell_version SET version = 999")


def newer_redis(url: str) -> None:
    from redis import Redis

    with Redis.from_url(url) as connection:
        connection.set("foretell:{jobs}:version", 999)


class ByScheme(dict[str, Callable[[str], None]]):
    def __missing__(self, scheme: str) -> Callable[[str], None]:
        return newer_sqlite


MAKE_NEWER = ByScheme(postgresql=newer_postgres, redis=newer_redis)


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
def test_a_server_that_is_not_there_is_refused_without_its_password(scheme: str) -> None:
    error = refusal(f"{scheme}://me:s3cret@127.0.0.1:{free_port()}/0")
    assert (type(error), error.code) == (Setup, "store_unusable")
    assert "s3cret" not in error.message


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    kept = store.submit([make()])[0]
    store._write.connection.execute("PRAGMA max_page_count = 40")  # type: ignore[attr-defined] # as if the disk ended there
    with pytest.raises(Unavailable) as refused:
        fill(store)
    assert refused.value.code == "store_full"
    assert store.get(kept.id) == kept
    store._write.connection.execute("PRAGMA max_page_count = 1000000")  # type: ignore[attr-defined]
    assert store.submit([make()])
    store.close()


def test_one_callers_mistake_is_not_its_neighbours(tmp_path: Path) -> None:
    writing, reading = open_file(tmp_path / "jobs.sqlite")
    write, first_is_in, all_wait = Writer(writing), threading.Event(), threading.Event()

    def hold(run: Run) -> str:
        first_is_in.set()
        assert all_wait.wait(10)
        return "held"

    def work(number: int) -> str:
        def insert(run: Run) -> str:
            run("INSERT INTO results VALUES (?, x'00')", (number,))
            if number == 3:
                raise ValueError("a mistake")
            return f"did {number}"

        return write(insert)

    with ThreadPoolExecutor(8) as pool:
        held = pool.submit(write, hold)
        assert first_is_in.wait(10)
        others = [pool.submit(work, number) for number in range(6)]
        while len(write._waiting) < 6:
            threading.Event().wait(0.001)  # until they stand in line
        all_wait.set()
        assert held.result() == "held"
        told = [str(other.exception() or other.result()) for other in others]
    assert told == ["did 0", "did 1", "did 2", "a mistake", "did 4", "did 5"]
    assert [row[0] for row in reading.execute("SELECT seq FROM results ORDER BY seq")] == [0, 1, 2, 4, 5]
    write.close()
    reading.close()


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(store.submit, [make()])
        assert store.counts()[State.WAITING] == 0  # who reads does not wait
        assert not kept.done()
        other.execute("COMMIT")
        assert len(kept.result(10)) == 1
    other.close()
    store.close()


def test_a_store_whose_connections_broke_is_used_again(fresh: Callable[[], str]) -> None:
    url = fresh()
    if "://" not in url:
        pytest.skip("a file has no connections")
    store = open_store(url)
    (kept,) = store.submit([make()])
    BREAK[url.partition(":")[0]](url)
    with suppress(Unavailable):  # whoever is on the broken connection is told to try again
        store.get(kept.id)
    assert store.get(kept.id) == kept
    store.close()


def break_postgres(url: str) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'foretell'")


def break_redis(url: str) -> None:
    from redis import Redis

    with Redis.from_url(url) as connection:
        connection.client_kill_filter(_type="normal", skipme=True)


BREAK = {"postgresql": break_postgres, "redis": break_redis}


def test_a_server_that_went_away_is_told_as_that(installed_redis: None) -> None:
    with redis_server() as url:
        store = open_store(url)
    with pytest.raises(Unavailable) as refused:
        store.submit([make()])
    assert refused.value.code == "store_unreachable"
    assert "127.0.0.1" not in refused.value.message
    store.close()


def test_a_redis_that_throws_things_away_is_refused(installed_redis: None) -> None:
    with redis_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as url:
        assert "noeviction" in refusal(url).message


def test_a_full_redis_takes_nothing_and_lets_what_it_has_be_done(installed_redis: None) -> None:
    with redis_server("--maxmemory", "4mb") as url:
        store = open_store(url)
        with pytest.raises(Unavailable) as refused:
            fill(store)
        assert refused.value.code == "store_full"
        waiting = store.counts()[State.WAITING]
        assert len(store.list(most=1000)) == waiting
        jobs = store.claim("anna", ["request"], 1000, 30.0)
        assert len(store.finish([Outcome(job.id, "anna", State.DONE, b"done") for job in jobs])) == waiting
        assert store.delete_expired() == waiting
        assert store.submit([make()])
        store.close()


def test_a_lock_that_somebody_holds_on_the_folder_holds_up_nobody(tmp_path: Path) -> None:
    """As that of ``flock FOLDER foretell serve``, which keeps a second server away."""
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        open_store(str(tmp_path)).close()
    finally:
        os.close(folder)


OPEN_ALL = """
import sys, time
from foretell.jobs.store import open_store
print("here", flush=True)
moment = float(sys.stdin.readline())
for folder in sys.argv[1:]:
    moment += 0.03
    while time.monotonic() < moment:
        pass
    open_store(folder).close()
"""


def test_two_processes_that_open_new_stores_at_once_both_open_them(tmp_path: Path) -> None:
    """Both turn to a new store at the same moments of one clock, again and again."""
    command = [sys.executable, "-c", OPEN_ALL, *(str(tmp_path / str(number)) for number in range(60))]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
    moment = time.monotonic()
    for process in both:
        assert process.stdin is not None
        process.stdin.write(f"{moment}\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60) and process.returncode for process in both] == [0, 0]


def test_a_claim_of_no_kind_still_ends_what_was_abandoned(tmp_path: Path) -> None:
    now = [1000.0]
    with closing(open_store(str(tmp_path), lambda: now[0])) as store:
        [job] = store.submit([Job(new_id(), "request", b"", 0.0, 0.0, most_attempts=1)])
        store.claim("anna", {"request"}, 1, 30.0)
        now[0] += 30.0
        assert store.claim("berta", set(), 1, 30.0) == []
        ended = store.get(job.id)
        assert ended is not None
        assert ended.state is State.FAILED
