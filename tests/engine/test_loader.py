"""Loading and unloading while others are served: honest states, no errors, nothing left behind."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from foretell.engine.states import IndexEntry, State
from foretell.errors import Busy, Missing, Setup
from foretell.request import Request
from tests.backends.graphs import identity, linear, save
from tests.engine.models import World, X, code, configure, hold, run, until


def test_every_version_that_is_chosen_is_served_and_the_others_say_why(tmp_path: Path) -> None:
    for version in "123":
        code(tmp_path, "m", int(version), version)
    configure(tmp_path / "m", 'policy = "latest"\nkeep = 2\nlabels = { stable = 2 }')

    async def story(world: World) -> None:
        assert (await world.ask(), await world.ask(version="2"), await world.ask(label="stable")) == (3, 2, 2)
        assert world.loader.index()[0] == IndexEntry("m", "1", State.UNAVAILABLE, "the version policy leaves it out")
        assert world.states == {"m/1": "UNAVAILABLE", "m/2": "READY", "m/3": "READY"}
        assert [entry.version for entry in world.loader.index(ready_only=True)] == ["2", "3"]
        assert (world.catalog.complete, world.catalog.labels("m")) == (True, {"stable": "2"})

    run(tmp_path, story)


def test_the_first_model_that_fails_stops_the_start(tmp_path: Path) -> None:
    code(tmp_path, "a")
    code(tmp_path, "b", "1 / 0")

    async def story() -> None:
        world = World(tmp_path)
        with pytest.raises(Setup, match="ZeroDivisionError"):
            await world.loader.start(world.repository)
        assert not world.catalog.complete
        assert world.states == {"a/1": "READY", "b/1": "UNAVAILABLE"}
        assert world.reason("b").startswith("broken_code: Python code that was named cannot be run")
        await world.loader.close()

    asyncio.run(story())


def test_unloading_and_loading_again(tmp_path: Path) -> None:
    code(tmp_path, "m", 1, "1")
    code(tmp_path, "m", 2, "2")
    code(tmp_path, "other", 7)

    async def story(world: World) -> None:
        models = [world.catalog.find("m", version).pipeline.model for version in ("1", "2")]
        await world.loader.unload("m")
        assert world.states == {"m/1": "UNAVAILABLE", "m/2": "UNAVAILABLE", "other/1": "READY"}
        assert world.reason() == "unloaded"
        with pytest.raises(Missing) as caught:
            world.catalog.find("m")
        assert caught.value.code == "unknown_model"
        assert all(model._close is None for model in models)  # type: ignore[attr-defined]  # its close was called
        await world.loader.unload("m")
        await world.loader.load("m")
        assert (await world.ask(), await world.ask(version="1"), await world.ask("other")) == (2, 1, 7)

    run(tmp_path, story)


def test_a_model_that_came_after_the_start_can_be_loaded(tmp_path: Path) -> None:
    code(tmp_path, "m")

    async def story(world: World) -> None:
        with pytest.raises(Missing):
            await world.loader.load("late")
        save(identity(dims=["n", 2]), code(tmp_path, "late", 5) / "1" / "model.onnx")
        await world.loader.rescan()
        assert world.states == {"m/1": "READY", "late/1": "UNAVAILABLE"}
        assert world.reason("late") == "not loaded yet"
        await world.loader.load("late")
        assert (await world.ask("late"), await world.ask()) == (5, 1)

    run(tmp_path, story)


def test_a_real_model_that_came_later_is_loaded_beside_a_broken_one(tmp_path: Path) -> None:
    code(tmp_path, "m")

    async def story(world: World) -> None:
        (tmp_path / "half" / "1").mkdir(parents=True)
        (tmp_path / "real" / "1").mkdir(parents=True)
        save(identity(dims=["n", 2]), tmp_path / "real" / "1" / "model.onnx")
        await world.loader.load("real")
        assert await world.ask("real") == 1
        with pytest.raises(Setup, match="has no version that is whole"):
            await world.loader.load("half")
        assert all(engine.ready for engine in world.catalog)

    run(tmp_path, story)


@pytest.mark.parametrize("name", ["..", "../m", "", "m/1", "/etc", "a\0b", "x" * 10_000, "m\n"])
def test_a_hostile_name_is_unknown(name: str, tmp_path: Path) -> None:
    code(tmp_path, "m")

    async def story(world: World) -> None:
        for change in (world.loader.load, world.loader.unload):
            with pytest.raises(Missing) as caught:
                await change(name)
            assert len(caught.value.message) < 600
        assert world.states == {"m/1": "READY"}

    run(tmp_path, story)


def test_loading_what_is_as_it_was_changes_nothing(tmp_path: Path) -> None:
    code(tmp_path, "m")

    async def story(world: World) -> None:
        before = world.catalog.find("m")
        await world.loader.load("m")
        assert world.catalog.find("m") is before

    run(tmp_path, story)


def test_a_changed_file_takes_over_and_what_ran_is_answered(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        old = world.catalog.find("m")
        held = hold(old)
        asked = [asyncio.ensure_future(world.ask()) for _ in range(3)]
        await until(lambda: bool(held.held))
        queued = asyncio.ensure_future(world.ask())
        code(tmp_path, "m", 22)
        loading = asyncio.ensure_future(world.loader.load("m"))
        await until(lambda: world.catalog.find("m") is not old)
        assert await world.ask() == 22
        assert world.states == {"m/1": "READY"}
        assert not loading.done()
        held.release()
        await until(lambda: bool(held.held) or queued.done())
        if held.held:
            held.release()
        assert await asyncio.gather(*asked, queued) == [1, 1, 1, 1]
        await loading
        assert not old.ready

    run(tmp_path, story)


def test_swaps_under_load_make_no_error(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        answers: list[float] = []
        running = True

        async def ask_on() -> None:
            while running:
                answers.append(await world.ask())
                await asyncio.sleep(0)

        askers = [asyncio.ensure_future(ask_on()) for _ in range(4)]
        for factor in range(10, 20):
            code(tmp_path, "m", factor)
            await world.loader.load("m")
        running = False
        await asyncio.gather(*askers)
        assert set(answers) <= {1, *range(10, 20)}
        assert await world.ask() == 19

    run(tmp_path, story)


def test_when_the_new_one_fails_the_old_one_goes_on(tmp_path: Path) -> None:
    code(tmp_path, "m", 1)

    async def story(world: World) -> None:
        code(tmp_path, "m", "1 / 0")
        with pytest.raises(Setup, match="ZeroDivisionError"):
            await world.loader.load("m")
        assert (await world.ask(), world.states) == (1, {"m/1": "READY"})
        assert world.reason().startswith(
            "its changed files could not be loaded, and what was there before goes on: broken_code"
        )
        assert str(tmp_path) not in world.reason()
        code(tmp_path, "m", "1 / 0", "2")
        with pytest.raises(Setup):
            await world.loader.load("m")
        code(tmp_path, "m", 3)
        code(tmp_path, "m", 4, "2")
        await world.loader.load("m")
        assert (await world.ask(), await world.ask(version="1"), world.reason()) == (4, 3, "")

    run(tmp_path, story)


def test_new_versions_come_old_ones_go_and_labels_move(tmp_path: Path) -> None:
    configure(code(tmp_path, "m", 1), 'policy = "latest"\nlabels = { stable = 1 }')

    async def story(world: World) -> None:
        old = world.catalog.find("m")
        code(tmp_path, "m", 2, "2")
        with pytest.raises(Setup, match="label 'stable' points at version 1"):
            await world.loader.load("m")
        assert await world.ask(label="stable") == 1
        configure(tmp_path / "m", 'policy = "latest"\nlabels = { stable = 2, canary = 2 }')
        await world.loader.load("m")
        assert (await world.ask(), await world.ask(label="stable"), await world.ask(label="canary")) == (2, 2, 2)
        assert world.states == {"m/1": "UNAVAILABLE", "m/2": "READY"}
        assert world.reason() == "it is no longer among the versions to serve"
        assert not old.ready

    run(tmp_path, story)


def test_one_change_of_a_model_runs_at_a_time(tmp_path: Path) -> None:
    code(tmp_path, "m")
    code(tmp_path, "other")

    async def story(world: World) -> None:
        engine = world.catalog.find("m")
        held = hold(engine)
        asked = asyncio.ensure_future(engine.infer(Request(X, time.monotonic() + 10)))
        await until(lambda: bool(held.held))
        unloading = asyncio.ensure_future(world.loader.unload("m"))
        await until(lambda: world.states["m/1"] == "UNLOADING")
        for change in (world.loader.load, world.loader.unload):
            with pytest.raises(Busy) as caught:
                await change("m")
            assert caught.value.code == "being_changed"
        await world.loader.unload("other")
        held.release()
        await asyncio.gather(asked, unloading)
        assert world.states == {"m/1": "UNAVAILABLE", "other/1": "UNAVAILABLE"}

    run(tmp_path, story)


def test_a_change_goes_on_when_its_caller_goes_away(tmp_path: Path) -> None:
    code(tmp_path, "m")

    async def story(world: World) -> None:
        code(tmp_path, "late", 5)
        caller = asyncio.ensure_future(world.loader.load("late"))
        await until(lambda: "late/1" in world.states)
        caller.cancel()
        await until(lambda: world.states["late/1"] == "READY")
        assert await world.ask("late") == 5

    run(tmp_path, story)


def test_loading_another_model_leaves_those_that_are_there_ready(tmp_path: Path) -> None:
    code(tmp_path, "m")

    async def story(world: World) -> None:
        seen: list[bool] = []
        world.catalog.watch(lambda: seen.append(world.catalog.complete and all(engine.ready for engine in world.catalog)))
        code(tmp_path, "late", 5)
        loading = asyncio.ensure_future(world.loader.load("late"))
        while not loading.done():
            seen.append(world.catalog.complete and all(engine.ready for engine in world.catalog))
            await asyncio.sleep(0)
        await loading
        assert all(seen)

    run(tmp_path, story)


def test_what_left_the_disk_leaves_the_index_once_it_is_not_served(tmp_path: Path) -> None:
    code(tmp_path, "m")
    code(tmp_path, "gone")

    async def story(world: World) -> None:
        os.rename(tmp_path / "gone", tmp_path / ".gone")
        await world.loader.rescan()
        assert "gone/1" in world.states
        await world.loader.unload("gone")
        await world.loader.rescan()
        assert world.states == {"m/1": "READY"}
        with pytest.raises(Missing):
            await world.loader.load("gone")

    run(tmp_path, story)


def test_an_ensemble_is_loaded_again_when_a_member_changes(tmp_path: Path) -> None:
    (tmp_path / "part" / "1").mkdir(parents=True)
    save(linear(features=2, classes=2), tmp_path / "part" / "1" / "model.onnx")
    (tmp_path / "whole" / "1").mkdir(parents=True)
    step = 'step { model_name: "part" input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } }'
    tensors = " ".join(
        f'{side} {{ name: "{name}" data_type: TYPE_FP32 dims: 2 }}' for side, name in (("input", "x"), ("output", "y"))
    )
    config = f'platform: "ensemble" max_batch_size: 4 {tensors} ensemble_scheduling {{ {step} }}'
    (tmp_path / "whole" / "config.pbtxt").write_text(config)

    async def story(world: World) -> None:
        before = await world.ask("whole")
        save(identity(dims=["n", 2]), tmp_path / "part" / "1" / "model.onnx")
        await world.loader.load("whole")
        assert before != 1
        assert await world.ask("whole") == 1

    run(tmp_path, story)
