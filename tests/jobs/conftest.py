"""Every store, on a real server where it needs one; where a server is not installed, its tests are skipped by name."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from foretell.jobs.store import JobStore, open_store
from foretell.testing import FakeClock
from tests.jobs.servers import POSTGRES_FOLDER, find_program, postgres_server, redis_server

NUMBERS = itertools.count(1)
PACKAGES = {"postgresql": "psycopg", "redis": "redis"}


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    if not find_program("initdb", POSTGRES_FOLDER):
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg")
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    if not find_program("redis-server"):
        pytest.skip("Redis is not installed: apt-get install redis-server")
    pytest.importorskip("redis")
    with redis_server() as url:
        yield url


@pytest.fixture
def fresh_postgres(postgres: str) -> str:
    """The URL of an empty schema of its own."""
    import psycopg

    name = f"jobs{next(NUMBERS)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{postgres}?options=-csearch_path%3D{name}"


@pytest.fixture
def fresh_redis(redis: str) -> str:
    """The URL of the server, with nothing in it."""
    from redis import Redis

    with Redis.from_url(redis) as connection:
        connection.flushall()
    return redis


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store of each kind is."""
    if request.param == "sqlite":
        return str(tmp_path / "state")
    fresh: str = request.getfixturevalue({"postgresql": "fresh_postgres", "redis": "fresh_redis"}[request.param])
    return fresh


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_800_000_000.0)


@pytest.fixture
def store(url: str, clock: FakeClock) -> Iterator[JobStore]:
    """An empty store of each kind, by a clock that stands still."""
    opened = open_store(url, clock)
    yield opened
    opened.close()
