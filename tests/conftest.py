"""Servers that many tests share, each started once."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.serving import Served, serving


@pytest.fixture(scope="session")
def lane_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real server with the fast lane; its queues hold few rows, so that they can be filled."""
    with serving(tmp_path_factory.mktemp("lane"), "--http-fast-lane", *LIMITS) as served:
        yield served


@pytest.fixture(scope="session")
def asgi_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same without the fast lane."""
    with serving(tmp_path_factory.mktemp("asgi"), "--no-http-fast-lane", *LIMITS) as served:
        yield served


@pytest.fixture(scope="session")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real server with its default limits, for what is large."""
    with serving(tmp_path_factory.mktemp("hostile")) as served:
        yield served


# Who runs the tests may ignore these (nohup, a shell's background), and so would every process that is started here.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("any machine", deadline=None)  # how long an example takes says nothing of what it shows
settings.load_profile("any machine")

LONG = ("tests/modes/ray/", "tests/workers/", "tests/soak/", "tests/optimize/tune/", "tests/modes/http/test_schemathesis")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that of several processes none works alone at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


LIMITS = ("--engine-queue-rows", "4", "--http-keep-alive-s", "1", "--http-max-request-bytes", "1000000")
