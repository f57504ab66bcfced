"""Changes of what is loaded: in two halves, of labels alone, of part of a repository, and while files come and go."""

import asyncio
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from foretell.engine.states import IndexEntry, State
from foretell.errors import Busy, Missing, Setup, Unavailable
from foretell.repository import Repository
from foretell.request import Request
from tests.engine.models import World, X, code, configure, hold, run, until

NEEDS_TOOL = pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")


def sums(folder: Path) -> None:
    subprocess.run(["sh", "-c", "sha256sum * > .new && mv .new SHA256SUMS"], cwd=folder, check=True)


def closed(engine: object) -> bool:
    """Whether the engine's model, made from code, was closed."""
    return engine.pipeline.model._close is None  # type: ignore[attr-defined]


def test_what_is_prepared_serves_only_once_it_is_committed(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        old = world.catalog.find("m")
        code(tmp_path, "m", 22)
        code(tmp_path, "m", 3, "2")
        change = await world.loader.prepare("m")
        assert world.catalog.find("m") is old
        assert world.states == {"m/1": "READY", "m/2": "LOADING"}
        for call in (world.loader.load, world.loader.unload, world.loader.prepare):
            with pytest.raises(Busy):
                await call("m")
        await change.commit()
        assert (await world.ask(version="1"), await world.ask()) == (22, 3)
        assert (world.states, closed(old)) == ({"m/1": "READY", "m/2": "READY"}, True)
        await change.abandon()  # what has ended has ended
        assert await world.ask() == 3
        await world.loader.load("m")

    run(tmp_path, story)


def test_what_is_abandoned_is_closed_and_the_old_goes_on(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        code(tmp_path, "m", 22)
        code(tmp_path, "m", 3, "2")
        change = await world.loader.prepare("m")
        await change.abandon()
        assert all(closed(each.engine) for each in change.fresh)
        assert world.states == {"m/1": "READY", "m/2": "UNAVAILABLE"}
        assert (world.reason(), world.reason(version="2")) == ("", "not loaded yet")
        assert (await world.ask(), world.loader.served()) == (1, {"m": ["1"]})
        await world.loader.load("m")
        assert await world.ask() == 3

    run(tmp_path, story)


def test_of_several_new_versions_all_come_or_none(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        code(tmp_path, "m", 22)
        code(tmp_path, "m", "1 / 0", "2")
        with pytest.raises(Setup):
            await world.loader.load("m")
        assert (await world.ask(), world.states) == (1, {"m/1": "READY", "m/2": "UNAVAILABLE"})
        assert world.reason() == ""
        assert world.reason(version="2").startswith("broken_code")

    run(tmp_path, story)


def test_when_who_prepares_goes_away_it_is_abandoned(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        code(tmp_path, "m", 22)
        caller = asyncio.ensure_future(world.loader.prepare("m"))
        await until(lambda: world.reason() != "")
        caller.cancel()
        await until(lambda: world.reason() == "")
        assert await world.ask() == 1
        await until(lambda: not world.loader._held)
        await world.loader.load("m")
        assert await world.ask() == 22

    run(tmp_path, story)


def test_what_is_prepared_at_the_end_is_closed(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story() -> None:
        world = World(tmp_path)
        await world.loader.start(world.repository)
        code(tmp_path, "m", 22)
        change = await world.loader.prepare("m")
        await world.loader.close()
        assert all(closed(each.engine) for each in change.fresh)

    asyncio.run(story())


def test_labels_move_and_traffic_changes_with_no_model_loaded_again(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)
    configure(code(tmp_path, "m", 2, "2"), 'policy = "all"\nlabels = { stable = 1 }')

    async def story(world: World) -> None:
        before = list(world.catalog)
        configure(tmp_path / "m", 'policy = "all"\nlabels = { stable = 2, old = 1 }\ntraffic = { 1 = 1 }', "pin = true")
        await world.loader.load("m")
        assert (await world.ask(label="stable"), await world.ask(label="old")) == (2, 1)
        assert world.catalog.pick("m").version == "1"
        configure(tmp_path / "m", "keep = 1")
        await world.loader.load("m")
        assert (list(world.catalog), before[1].ready) == ([before[1]], True)
        configure(tmp_path / "m", "keep = 1\n[engine]\nmax_batch_rows = 3")
        await world.loader.load("m")
        assert world.catalog.find("m") is not before[1]

    run(tmp_path, story)


def test_a_worker_that_comes_later_serves_exactly_what_the_others_do(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)
    configure(code(tmp_path, "m", 2, "2"), "labels = { stable = 2 }")
    code(tmp_path, "out")
    code(tmp_path, "late")

    async def story(world: World) -> None:
        assert (await world.ask(), world.catalog.labels("m")) == (1, {})
        assert world.states == {"late/1": "UNAVAILABLE", "m/1": "READY", "m/2": "UNAVAILABLE", "out/1": "UNAVAILABLE"}
        assert world.loader.served() == {"out": [], "m": ["1"]}
        assert not world.loader.minds("out")
        assert world.loader.minds("late")

    run(tmp_path, story, served={"m": ["1"], "out": []})


def test_a_worker_that_cannot_serve_what_the_others_do_does_not_start(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)
    for served in ({"gone": ["1"]}, {"m": ["7"]}):
        with pytest.raises(Setup):
            run(tmp_path, lambda world: asyncio.sleep(0), served=served)


@pytest.mark.parametrize(("load", "ready"), [("*", ["a", "b"]), ("b", ["b"]), (" b , a", ["a", "b"]), ("none", [])])
def test_what_is_loaded_at_the_start_may_be_named(load: str, ready: list[str], tmp_path: Path) -> None:
    code(tmp_path, "a")
    code(tmp_path, "b")

    async def story(world: World) -> None:
        assert [entry.name for entry in world.loader.index(ready_only=True)] == ready
        assert world.catalog.complete
        await world.loader.load("a")
        assert await world.ask("a") == 1

    run(tmp_path, story, load=load)


def test_a_model_to_load_that_is_not_there_is_named(tmp_path: Path) -> None:
    code(tmp_path, "a")
    with pytest.raises(Setup, match=r"repository\.load names 'b', which is not there: there are a"):
        run(tmp_path, lambda world: asyncio.sleep(0), load="a,b")


def test_a_broken_model_that_is_not_to_be_loaded_does_not_stop_the_start(tmp_path: Path) -> None:
    code(tmp_path, "a")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "notes.txt").write_text("not yet")

    async def story(world: World) -> None:
        assert world.states == {"a/1": "READY", "half/": "UNAVAILABLE"}
        assert world.reason("half", "").startswith("unknown_format: The path is not a model")

    run(tmp_path, story, load="a")


def test_those_who_ask_for_what_is_not_served_are_told_why(tmp_path: Path) -> None:
    code(tmp_path, "m")
    code(tmp_path, "other", "1 / 0")

    async def story(world: World) -> None:
        await world.loader.unload("m")
        with pytest.raises(Missing, match="model 'm' is unloaded: an administrator can load it again"):
            world.catalog.find("m")
        with pytest.raises(Missing, match="model 'other' is not served: not loaded yet"):
            world.catalog.find("other")
        with pytest.raises(Setup):
            await world.loader.load("other")
        with pytest.raises(Missing, match="model 'other' is not served: broken_code"):
            world.catalog.find("other")
        with pytest.raises(Missing, match="there is no model 'nobody' here"):
            world.catalog.find("nobody")
        world.catalog.call("nobody")

    run(tmp_path, story, load="m")


def test_a_model_that_is_being_loaded_is_unavailable_not_unknown(tmp_path: Path) -> None:
    code(tmp_path, "m")

    async def story(world: World) -> None:
        loading = asyncio.ensure_future(world.loader.load("m"))
        await until(lambda: world.states == {"m/1": "LOADING"})
        with pytest.raises(Unavailable) as caught:
            world.catalog.find("m")
        assert (caught.value.code, caught.value.details["retry_after_s"]) == ("not_ready", 1)
        await loading

    run(tmp_path, story, load="none")


def test_what_is_wrong_on_disk_is_told_beside_what_is_served_until_it_is_right_again(tmp_path: Path) -> None:
    code(tmp_path, "m")

    async def story(world: World) -> None:
        (tmp_path / "m" / "pipeline.toml").write_text("[versions\n")
        await world.loader.rescan()
        assert world.entries == [
            IndexEntry(
                "m",
                "1",
                State.READY,
                "what is on disk now cannot be loaded, and what was there before goes on: broken_pipeline: The steps and the "
                "model do not fit together, or pipeline.toml cannot be read.",
            )
        ]
        assert await world.ask() == 1
        configure(tmp_path / "m", 'policy = "all"')
        await world.loader.rescan()
        assert world.reason() == ""

    run(tmp_path, story)


@NEEDS_TOOL
def test_what_was_verified_says_so(tmp_path: Path) -> None:
    code(tmp_path, "m")
    (tmp_path / "m" / "1" / "app.py").chmod(0o644)
    sums(tmp_path / "m" / "1")

    async def story(world: World) -> None:
        assert world.reason() == "its files are those of SHA256SUMS"

    run(tmp_path, story)


@NEEDS_TOOL
def test_a_version_with_a_wrong_checksum_leaves_the_old_one_and_says_why(tmp_path: Path) -> None:
    configure(code(tmp_path, "m", 1), "keep = 1")

    async def story(world: World) -> None:
        code(tmp_path, "m", 2, "2")
        sums(tmp_path / "m" / "2")
        code(tmp_path, "m", 3, "2")
        with pytest.raises(Setup) as caught:
            await world.loader.load("m")
        assert caught.value.code == "wrong_checksum"
        assert (await world.ask(), world.states) == (1, {"m/1": "READY", "m/2": "UNAVAILABLE"})
        assert world.reason(version="2").startswith("wrong_checksum: The model's files are not those")
        sums(tmp_path / "m" / "2")
        await world.loader.load("m")
        assert (await world.ask(), world.reason(version="2")) == (3, "its files are those of SHA256SUMS")

    run(tmp_path, story)


@NEEDS_TOOL
def test_a_version_that_is_not_whole_at_the_start_is_passed_over(tmp_path: Path) -> None:
    configure(code(tmp_path, "m", 1), "keep = 1")
    code(tmp_path, "m", 2, "2")
    sums(tmp_path / "m" / "2")
    code(tmp_path, "m", 3, "2")
    code(tmp_path, "none", 1)
    (tmp_path / "none" / "1" / "SHA256SUMS").write_text(f"{'0' * 64}  gone.bin\n")

    async def story(world: World) -> None:
        assert await world.ask() == 1
        assert world.states == {"m/1": "READY", "m/2": "UNAVAILABLE", "none/1": "UNAVAILABLE"}
        assert world.reason(version="2").startswith("wrong_checksum")
        assert world.reason("none") == "incomplete: SHA256SUMS lists 'gone.bin', which is not there yet"
        with pytest.raises(Setup) as caught:
            await world.loader.load("none")
        assert caught.value.code == "incomplete"

    run(tmp_path, story)


@NEEDS_TOOL
def test_a_served_version_that_is_being_written_anew_goes_on(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)
    sums(tmp_path / "m" / "1")

    async def story(world: World) -> None:
        os.rename(tmp_path / "m" / "1" / "app.py", tmp_path / "m" / "1" / ".app.py")
        code(tmp_path, "m", 2, "2")
        await world.loader.load("m")
        assert (await world.ask(version="1"), await world.ask()) == (1, 2)

    run(tmp_path, story)


def test_files_that_are_written_while_they_are_read_are_not_served(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        file = tmp_path / "m" / "1" / "app.py"
        code(tmp_path, "m", f"__import__('pathlib').Path({str(file)!r}).write_text('# another')")
        with pytest.raises(Setup, match="were written while they were read") as caught:
            await world.loader.load("m")
        assert (caught.value.code, await world.ask()) == ("incomplete", 1)

    run(tmp_path, story)


def test_a_folder_that_goes_between_finding_and_loading_is_a_refusal(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    class Leaving(Repository):
        def find(self, *asked: object, **more: object) -> None:
            found = super().find(*asked, **more)  # type: ignore[arg-type]
            shutil.rmtree(tmp_path / "m" / "1")
            return found  # type: ignore[return-value]

    async def story(world: World) -> None:
        code(tmp_path, "m", 2)
        world.loader._repository = Leaving([tmp_path])
        with pytest.raises(Setup) as caught:
            await world.loader.load("m")
        assert (caught.value.code, await world.ask()) == ("missing_file", 1)

    run(tmp_path, story)


def test_a_version_that_becomes_a_file_or_a_link_out_is_a_refusal(tmp_path: Path) -> None:
    code(tmp_path / "models", "m", 1)
    outside = code(tmp_path / "outside", "m", 9)

    async def story(world: World) -> None:
        place = tmp_path / "models" / "m" / "1"
        shutil.rmtree(place)
        place.symlink_to(outside / "1")
        with pytest.raises(Setup) as caught:
            await world.loader.load("m")
        assert caught.value.code == "outside_folder"
        place.unlink()
        place.write_text("no folder")
        with pytest.raises(Setup) as caught:
            await world.loader.load("m")
        assert await world.ask() == 1
        assert world.reason().startswith("what is on disk now cannot be loaded")

    run(tmp_path / "models", story)


def test_two_loads_at_once_are_one_load_and_one_refusal(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        code(tmp_path, "m", 2)
        outcomes = await asyncio.gather(*(world.loader.load("m") for _ in range(2)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), Busy]
        assert await world.ask() == 2

    run(tmp_path, story)


def test_loading_while_it_is_unloaded_is_refused_and_works_after(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        engine = world.catalog.find("m")
        held = hold(engine)
        asked = asyncio.ensure_future(engine.infer(Request(X, time.monotonic() + 10)))
        await until(lambda: bool(held.held))
        unloading = asyncio.ensure_future(world.loader.unload("m"))
        await until(lambda: world.states["m/1"] == "UNLOADING")
        with pytest.raises(Busy):
            await world.loader.load("m")
        held.release()
        await asyncio.gather(asked, unloading)
        await world.loader.load("m")
        assert (await world.ask(), world.loader.served()) == (1, {"m": ["1"]})

    run(tmp_path, story)
