"""What the supervisor and a worker say to each other arrives whole, or not at all."""

import socket

import pytest

from foretell.errors import Busy
from foretell.workers.channel import Channel, pack_error, unpack_error


@pytest.fixture
def ends() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    return Channel(ours), Channel(theirs)


def test_messages_come_one_by_one_however_they_were_cut(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.socket.sendall(b'{"a": 1}\n{"b"')
    assert ours.receive() == [{"a": 1}]
    theirs.socket.sendall(b": 2}\n")
    assert ours.receive() == [{"b": 2}]
    assert ours.receive() == []
    ours.close()
    theirs.close()


def test_what_was_said_last_is_heard_before_the_end(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.send({"last": "words"})
    theirs.close()
    assert ours.receive() == [{"last": "words"}]
    assert not ours.open
    ours.close()


def test_nobody_waits_long_for_one_who_does_not_listen(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.send({"long": "x" * 2**22})
    assert not ours.open
    ours.send({"more": ""})
    ours.close()
    theirs.close()


def test_a_single_message_is_waited_for_until_the_other_end_is_gone(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.send({"one": 1})
    theirs.send({"two": 2})
    theirs.close()
    assert ours.wait() == {"one": 1}
    assert ours.wait() == {"two": 2}
    assert ours.wait() is None
    ours.close()


def test_an_error_is_the_same_on_the_other_side() -> None:
    error = unpack_error(pack_error(Busy("being_changed", "try again", retry_after_s=1)))
    assert (type(error), error.code, error.message, error.details) == (Busy, "being_changed", "try again", {"retry_after_s": 1})
