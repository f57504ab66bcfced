"""Log lines into what nobody reads."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO

import pytest

from foretell.outlet import MOST_KEPT_BYTES, Outlet, outlet
from tests.serving import eventually

Ends = tuple[int, Outlet]
LINE = "x" * 999 + "\n"


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A descriptor to read from, and an outlet into its other end."""
    if request.param == "pipe":
        reading, writing = os.pipe()
    else:
        one, two = socket.socketpair()
        reading, writing = one.detach(), two.detach()
    with open(writing, "w") as stream:
        out = outlet(stream)
        assert isinstance(out, Outlet)
        yield reading, out
        out.close()
        assert os.get_blocking(writing)
    os.close(reading)


def read_all(descriptor: int, until: str) -> str:
    os.set_blocking(descriptor, False)
    data = b""

    def more() -> bool:
        nonlocal data
        with suppress(BlockingIOError):
            data += os.read(descriptor, 2**20)
        return until.encode() in data

    assert eventually(more)
    return data.decode()


def test_what_is_read_comes_as_it_was_written(ends: Ends) -> None:
    descriptor, out = ends
    out.write("one\n")
    out.write("two\n")
    assert os.read(descriptor, 100) in {b"one\n", b"one\ntwo\n"}


def test_what_is_not_read_is_kept_to_a_bound_and_what_was_dropped_is_told(ends: Ends) -> None:
    descriptor, out = ends
    for _ in range(3 * MOST_KEPT_BYTES // len(LINE)):
        out.write(LINE)
    text = read_all(descriptor, LINE * (MOST_KEPT_BYTES // len(LINE)))
    out.write("after\n")
    text += read_all(descriptor, "after\n")
    lines = [line for line in text.splitlines(keepends=True) if line not in {LINE, "after\n"}]
    assert len(lines) == 1
    assert lines[0].startswith("... ")
    assert "lines of the log were dropped" in lines[0]


def test_a_reader_that_has_gone_is_no_failure(ends: Ends) -> None:
    descriptor, out = ends
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
    out.write(LINE)
    out.write(LINE)


def test_what_is_no_descriptor_is_left_as_it_is() -> None:
    stream = StringIO()
    assert outlet(stream) is stream
    assert outlet(None) is None
