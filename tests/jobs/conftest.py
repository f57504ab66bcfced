"""Every store, on a real server where it needs one; where a server is not installed, its tests are skipped by name."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foretell.jobs.store import JobStore, open_store
from foretell.testing import FakeClock
from tests.jobs.servers import POSTGRES_FOLDER, find_program, postgres_server, redis_server

NUMBERS = itertools.count(1)
Fresh = Callable[[], str]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    if not find_program("initdb", POSTGRES_FOLDER):
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg")
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def installed_redis() -> None:
    if not find_program("redis-server"):
        pytest.skip("Redis is not installed: apt-get install redis-server")
    pytest.importorskip("redis")


@pytest.fixture(scope="session")
def redis(installed_redis: None) -> Iterator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh:
    """Gives the URL of an empty store, each time it is called; for each kind of store."""
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"state{next(NUMBERS)}")
    empty = EMPTIED[request.param]
    server = request.getfixturevalue(request.param)
    return lambda: empty(server)


def schema_of_its_own(postgres: str) -> str:
    import psycopg

    name = f"jobs{next(NUMBERS)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{postgres}?options=-csearch_path%3D{name}"


def emptied(redis: str) -> str:
    from redis import Redis

    with Redis.from_url(redis) as connection:
        connection.flushall()
    return redis


EMPTIED = {"postgresql": schema_of_its_own, "redis": emptied}


@pytest.fixture
def url(fresh: Fresh) -> str:
    """Where an empty store of each kind is."""
    return fresh()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_800_000_000.0)


@pytest.fixture
def store(url: str, clock: FakeClock) -> Iterator[JobStore]:
    """An empty store of each kind, by a clock that stands still."""
    opened = open_store(url, clock)
    yield opened
    opened.close()
