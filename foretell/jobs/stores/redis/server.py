"""Opens a server, checks that it keeps what it is given, and turns what it says into refusals of ours."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from foretell.errors import ForetellError, Setup, Unavailable

VERSION = 1
PREFIX = "foretell:{jobs}:"
"""What all our keys begin with."""

LEAST_REDIS = 7
MOST_CONNECTIONS = 8
ANSWER_S = 30.0

log = logging.getLogger("foretell")


class Server:
    """A database at a URL. A script is never sent twice by itself: the first time might have counted."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {
            "max_connections": MOST_CONNECTIONS,
            "timeout": ANSWER_S,
            "socket_timeout": ANSWER_S,
            "socket_connect_timeout": ANSWER_S,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        with _openings():
            self.redis = Redis.from_pool(BlockingConnectionPool.from_url(url, **options))

    def prepare(self) -> None:
        """Check that this server is fit for jobs, and that what is in it is not newer than we are."""
        with _openings():
            self._check(self.redis.info("everything"))
            self.redis.set(f"{PREFIX}version", VERSION, nx=True)
            version = int(self.read("GET", f"{PREFIX}version"))
        if version > VERSION:
            raise Setup(
                "store_newer", f"the jobs there have version {version}, this program knows {VERSION}: start the newer program"
            )

    def run(self, script: str, *values: bytes | str | int) -> Any:
        """What a script of ``scripts.py`` gives for its ``ARGV``."""
        with refusals():
            return self.redis.register_script(script)(keys=[PREFIX], args=values)

    def read(self, name: str, *values: object) -> Any:
        """What a command gives that changes nothing."""
        with refusals():
            return self.redis.execute_command(name, *values)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self.redis.close()

    def _check(self, told: dict[str, Any]) -> None:
        version = str(told.get("redis_version", "0"))
        if int(version.partition(".")[0]) < LEAST_REDIS:
            raise unusable(f"it is Redis {version}, version {LEAST_REDIS} is needed")
        if told.get("cluster_enabled"):
            raise unusable("it is a part of a cluster, a server of its own is needed")
        if told.get("maxmemory") and told.get("maxmemory_policy") != "noeviction":
            raise unusable(
                f"it throws away what it has no room for ({told['maxmemory_policy']}): set maxmemory-policy noeviction"
            )
        if not told.get("aof_enabled"):
            log.warning("jobs are lost when this Redis stops: set `appendonly yes` in its configuration")


def unusable(why: str) -> Setup:
    return Setup("store_unusable", f"jobs cannot be kept in this Redis: {why}")


@contextmanager
def _openings() -> Iterator[None]:
    try:
        yield
    except (RedisError, ValueError) as error:
        raise unusable(f"{error}: correct the URL or start the server") from error


@contextmanager
def refusals() -> Iterator[None]:
    """Turns what is wrong with the server into errors of ours. What is wrong with a script is a bug."""
    try:
        yield
    except RedisError as error:
        raise _refusal(error) from error


def _refusal(error: RedisError) -> ForetellError | RedisError:
    text = str(error)
    if text.startswith(("OOM", "MISCONF")) or "maxmemory" in text:
        return Unavailable("store_full", "the store of jobs has no room left: nothing was changed")
    if type(error) is ResponseError and not text.startswith(("READONLY", "LOADING", "BUSY", "MASTERDOWN")):
        return error
    return Unavailable("store_unreachable", "the store of jobs cannot be used at this moment: try again")
