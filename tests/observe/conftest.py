"""The log of this process, as a test opens it."""

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from foretell.observe.logs import configure
from foretell.settings import LogSettings

LOG = logging.getLogger("foretell")
OpenLog = Callable[..., io.StringIO]


@pytest.fixture
def open_log() -> Iterator[OpenLog]:
    """Opens the log into what is returned; the logger is as before afterwards."""
    before = (LOG.handlers[:], LOG.level, LOG.propagate)

    def opened(worker: int | None = None, **settings: Any) -> io.StringIO:
        written = io.StringIO()
        configure(LogSettings(**settings), written, worker=worker)
        return written

    yield opened
    LOG.handlers[:], LOG.level, LOG.propagate = before
