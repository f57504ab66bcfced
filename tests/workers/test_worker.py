"""The worker's side: its wishes, the orders it follows, and when it is worn. Whole workers are in test_supervisor.py."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foretell.assemble import Service, find_all
from foretell.errors import Missing, Unavailable
from foretell.passage import Passage
from foretell.settings import Settings, SupervisorSettings
from foretell.workers.channel import Channel
from foretell.workers.worker import SharedControl, Wear
from tests.serving import MODELS

Pair = tuple[SharedControl, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A worker's control, and the supervisor's end of its channel."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield SharedControl(Channel(ours)), Channel(theirs)


async def said(control: SharedControl, supervisor: Channel) -> Any:
    """The next message that the worker sends."""
    while not (messages := supervisor.receive()):
        await asyncio.sleep(0.001)
    (message,) = messages
    return message


def test_a_wish_ends_as_the_supervisor_says(pair: Pair) -> None:
    control, supervisor = pair

    async def ask() -> None:
        wish = asyncio.ensure_future(control.load("m"))
        asked = await said(control, supervisor)
        assert (asked["is"], asked["verb"], asked["name"]) == ("asking", "load", "m")
        error = {"code": "unknown_model", "message": "there is no m", "details": {"name": "m"}}
        control.obey({"do": "answer", "question": asked["question"], "error": error})
        with pytest.raises(Missing, match="there is no m") as caught:
            await wish
        assert caught.value.details == {"name": "m"}

    asyncio.run(ask())


@pytest.mark.parametrize("gone", ["before", "meanwhile"])
def test_a_wish_fails_when_the_supervisor_is_gone(gone: str, pair: Pair) -> None:
    control, supervisor = pair

    async def ask() -> None:
        if gone == "before":
            supervisor.close()
        wish = asyncio.ensure_future(control.unload("m"))
        await asyncio.sleep(0)
        control.close()
        with pytest.raises(Unavailable):
            await wish

    asyncio.run(ask())


def test_a_model_is_prepared_served_and_let_go_as_ordered(tmp_path: Path, pair: Pair) -> None:
    control, supervisor = pair
    (tmp_path / "double.py").write_text("import foretell\n" + MODELS["double"])

    async def follow() -> None:
        service = Service(Settings())
        control.over(service.loader)
        repository = find_all([Path(f"{tmp_path}/double.py:model")], None)
        await service.loader.start(repository, {"double": []})
        for change, last, served in ((1, "abandon", {"double": []}), (2, "commit", {"double": ["1"]})):
            control.obey({"do": "prepare", "change": change, "name": "double"})
            assert (await said(control, supervisor))["error"] is None
            assert list(service.catalog) == []
            control.obey({"do": last, "change": change, "name": "double"})
            done = await said(control, supervisor)
            assert (done["change"], done["error"], done["served"]) == (change, None, served)
        control.obey({"do": "unload", "change": 3, "name": "double"})
        assert (await said(control, supervisor))["served"] == {"double": []}
        control.obey({"do": "prepare", "change": 4, "name": "other"})
        assert (await said(control, supervisor))["error"]["code"] == "unknown_model"
        control.obey({"do": "abandon", "change": 4, "name": "other"})
        assert (await said(control, supervisor))["error"] is None
        await service.loader.close()

    asyncio.run(follow())


def test_what_is_abandoned_while_it_is_prepared_is_let_go_when_it_is_there(tmp_path: Path, pair: Pair) -> None:
    control, supervisor = pair
    (tmp_path / "double.py").write_text("import foretell\n" + MODELS["double"])

    async def follow() -> None:
        service = Service(Settings())
        control.over(service.loader)
        await service.loader.start(find_all([Path(f"{tmp_path}/double.py:model")], None), {"double": []})
        control.obey({"do": "prepare", "change": 1, "name": "double"})
        control.obey({"do": "abandon", "change": 1, "name": "double"})
        messages: list[Any] = []
        while len(messages) < 2:
            messages += supervisor.receive()
            await asyncio.sleep(0.001)
        assert [(message["change"], message["error"]) for message in messages] == [(1, None)] * 2
        assert list(service.catalog) == []
        await service.loader.close()

    asyncio.run(follow())


def test_a_worker_is_worn_after_its_most_requests_and_says_so_once() -> None:
    wear = Wear(SupervisorSettings(max_requests=2))
    (count,) = wear.observers
    count(Passage("m", "1", "http", 0.0, ""))
    assert wear.why() == ""
    count(Passage("m", "1", "http", 0.0, ""))
    assert "supervisor.max_requests" in wear.why()
    assert wear.why() == ""


def test_a_worker_is_worn_above_its_most_memory() -> None:
    assert "supervisor.max_rss_bytes" in Wear(SupervisorSettings(max_rss_bytes=2**20)).why()
    assert Wear(SupervisorSettings(max_rss_bytes=2**40)).why() == ""


def test_nothing_is_counted_when_a_worker_does_not_wear() -> None:
    assert Wear(SupervisorSettings()).observers == ()
