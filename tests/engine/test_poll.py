"""A repository that is looked at again and again: what came, changed or went is taken once its files stand still."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from foretell.engine.poll import Poll
from foretell.errors import Busy
from tests.engine.models import World, code, configure, run, until


class Watch:
    """A poll whose looks are made by hand, and the calls that they led to."""

    def __init__(self, world: World) -> None:
        self.calls: list[str] = []
        loader = world.loader
        self.poll = Poll(loader, world.repository, self.calling("load", loader.load), self.calling("unload", loader.unload))

    def calling(self, verb: str, call: Callable[[str], Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
        async def told(name: str) -> None:
            self.calls.append(f"{verb} {name}")
            await call(name)

        return told

    async def looks(self, count: int) -> list[str]:
        """The calls of so many looks."""
        self.calls = []
        for _ in range(count):
            await self.poll.look()
        return self.calls


def test_what_comes_changes_and_goes_is_taken_after_two_looks(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        watch = Watch(world)
        assert await watch.looks(3) == []
        code(tmp_path, "late", 5)
        code(tmp_path, "m", 2)
        code(tmp_path, "m", 3, "2")
        assert await watch.looks(1) == []
        assert await watch.looks(1) == ["load late", "load m"]
        assert (await world.ask("late"), await world.ask(), await world.ask(version="1")) == (5, 3, 2)
        assert await watch.looks(3) == []
        shutil.rmtree(tmp_path / "m" / "2")
        shutil.rmtree(tmp_path / "late")
        assert await watch.looks(1) == []
        assert await watch.looks(1) == ["load m", "unload late"]
        assert (await world.ask(), world.states) == (2, {"m/1": "READY", "m/2": "UNAVAILABLE"})
        assert await watch.looks(3) == []
        code(tmp_path, "late", 6)
        assert await watch.looks(2) == ["load late"]
        assert await world.ask("late") == 6

    run(tmp_path, story)


def test_a_folder_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        watch = Watch(world)
        await watch.looks(2)
        code(tmp_path, "m", 2, "2")
        for size in range(1, 4):
            (tmp_path / "m" / "2" / "weights.bin").write_bytes(b"x" * size)
            assert await watch.looks(1) == []
        assert await watch.looks(1) == ["load m"]

    run(tmp_path, story)


def test_what_failed_is_not_tried_again_until_its_files_change(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        watch = Watch(world)
        await watch.looks(2)
        code(tmp_path, "m", "1 / 0", "2")
        assert await watch.looks(4) == ["load m"]
        assert (await world.ask(), world.reason(version="2")[:11]) == (1, "broken_code")
        code(tmp_path, "m", 2, "2")
        assert await watch.looks(4) == ["load m"]
        assert await world.ask() == 2
        (tmp_path / "m" / "pipeline.toml").write_text("[versions\n")
        assert await watch.looks(4) == ["load m"]
        assert world.reason().startswith("what is on disk now cannot be loaded")
        configure(tmp_path / "m", 'policy = "all"')
        assert await watch.looks(4) == []  # all is as it is served
        assert world.reason() == ""

    run(tmp_path, story)


def test_a_moved_label_is_taken_with_no_model_loaded_again(tmp_path: Path) -> None:
    configure(code(tmp_path, "m", 1), "labels = { stable = 1 }")

    async def story(world: World) -> None:
        watch, engine = Watch(world), world.catalog.find("m")
        configure(tmp_path / "m", "labels = { canary = 1 }")
        assert await watch.looks(3) == ["load m"]
        assert (world.catalog.labels("m"), world.catalog.find("m")) == ({"canary": "1"}, engine)

    run(tmp_path, story)


def test_what_was_unloaded_or_is_not_to_be_loaded_stays_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        code(tmp_path, name)

    async def story(world: World) -> None:
        watch = Watch(world)
        await world.loader.unload("a")
        code(tmp_path, "a", 2)
        code(tmp_path, "c", 2)
        assert await watch.looks(3) == []
        await world.loader.load("c")
        code(tmp_path, "c", 3)
        assert await watch.looks(3) == ["load c"]
        shutil.rmtree(tmp_path / "a")
        assert await watch.looks(3) == []
        assert "a/1" not in world.states
        code(tmp_path, "a", 4)
        assert await watch.looks(3) == ["load a"]

    run(tmp_path, story, load="a,b")


@pytest.mark.parametrize("away", ["renamed", "emptied"])
def test_a_repository_that_is_away_takes_nothing_out(away: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    code(models, "a")
    code(models, "b")

    async def story(world: World) -> None:
        watch = Watch(world)
        await watch.looks(2)
        os.rename(models, tmp_path / "elsewhere")
        if away == "emptied":
            models.mkdir()
        assert await watch.looks(4) == []
        assert (await world.ask("a"), await world.ask("b")) == (1, 1)
        if away == "emptied":
            models.rmdir()
        os.rename(tmp_path / "elsewhere", models)
        assert await watch.looks(4) == []
        assert world.reason("a") == ""

    run(models, story)


def test_a_change_that_runs_meanwhile_is_waited_for(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        watch = Watch(world)
        await watch.looks(2)
        code(tmp_path, "m", 2)
        change = await world.loader.prepare("m")
        with pytest.raises(Busy):
            await world.loader.load("m")
        assert await watch.looks(3) == ["load m", "load m"]
        await change.abandon()
        assert await watch.looks(1) == ["load m"]
        assert await world.ask() == 2

    run(tmp_path, story)


def test_files_that_vanish_while_they_are_looked_at_are_looked_at_again(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)
    (tmp_path / "m" / "1" / "loop").symlink_to("loop")

    async def story(world: World) -> None:
        watch = Watch(world)
        assert await watch.looks(2) == []
        code(tmp_path, "m", 2)
        assert await watch.looks(3) == ["load m"]

    run(tmp_path, story)


def test_the_poll_runs_by_itself_and_only_when_it_is_asked_for(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        watching = asyncio.ensure_future(world.loader.watch(world.loader.load, world.loader.unload))
        code(tmp_path, "m", 2)
        await until(
            lambda: watching.done() or (world.catalog.find("m").version == "1" and world.loader.index()[0].reason != "")
        )
        await until(lambda: world.loader.index()[0].reason == "")
        assert await world.ask() == 2
        watching.cancel()

    run(tmp_path, story, poll_s=0.01)

    async def without(world: World) -> None:
        await asyncio.wait_for(world.loader.watch(world.loader.load, world.loader.unload), 5)

    run(tmp_path, without)
