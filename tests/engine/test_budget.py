"""The memory of all models: who makes room for whom, and how it comes back."""

import asyncio
from pathlib import Path

import pytest

from foretell.engine.budget import RETRY_S, Budget, Evicted
from foretell.errors import Missing, Setup, Unavailable
from foretell.passage import Passage
from tests.engine.models import World, code, configure, run, until
from tests.serving import eventually, infer, post, serving

MIB = 2**20
EACH = 200 * MIB
ONE, TWO = EACH * 3 // 2, EACH * 5 // 2  # room for one, and for two


def used(budget: Budget, name: str, ended: float) -> None:
    passage = Passage(name, "1", "test", 0.0, None)
    passage.ended = ended
    budget(passage)


def test_who_was_not_used_for_longest_goes_first() -> None:
    budget = Budget(100)
    for now, name in enumerate(["a", "b", "c", "a"]):
        used(budget, name, float(now))
    sizes = {"a": 40, "b": 40, "c": 40}
    assert budget.choose(sizes, set()) == "b"
    assert budget.choose(sizes, {"b"}) == "c"
    assert budget.choose(sizes, {"a", "b", "c"}) is None
    assert budget.choose({"a": 40, "b": 40}, set()) is None
    assert budget.choose({"a": 40, "b": 40}, set(), needed=30) == "b"
    assert Budget(0).choose(sizes, set()) is None


def test_a_model_that_fits_beside_no_pinned_one_is_refused_with_numbers() -> None:
    budget = Budget(100 * MIB)
    budget.check("m", 60 * MIB, 40 * MIB)
    Budget(0).check("m", 60 * MIB, 40 * MIB)
    with pytest.raises(
        Setup, match=r"takes 61\.0 MiB of memory, but there are 100\.0 MiB .*, of which pinned models take 40\.0 MiB"
    ):
        budget.check("m", 61 * MIB, 40 * MIB)
    with pytest.raises(Setup, match=r"for all models of a worker: raise repository\.memory_bytes") as caught:
        budget.check("m", 101 * MIB, 0)
    assert caught.value.code == "over_memory"


def test_a_model_is_called_back_once_and_later_again_when_that_failed() -> None:
    budget = Budget(100)
    budget.evicted["m"] = Evicted(("1",), 40, 3.2)
    assert budget.call_back("m", 10.0)
    assert not budget.call_back("m", 13.0)
    assert budget.refusal("m", 10.0).details["retry_after_s"] == 4
    assert budget.refusal("m", 13.5).details["retry_after_s"] == 1
    budget.failed("m", 14.0)
    assert not budget.call_back("m", 14.0 + RETRY_S - 0.1)
    assert budget.call_back("m", 14.0 + RETRY_S)


def heavy(repository: Path, name: str, factor: int | str = 1, version: str = "1") -> Path:
    """A model in code with a large file, that takes no place on the disk: it is taken to need as much memory."""
    folder = code(repository, name, factor, version)
    with (folder / version / "weights.bin").open("wb") as weights:
        weights.truncate(EACH)
    return folder


def test_the_least_recently_used_makes_room_and_comes_back_when_asked_for(tmp_path: Path) -> None:
    for number, name in enumerate(["a", "b"], 1):
        heavy(tmp_path, name, number)

    async def story(world: World) -> None:
        assert await world.ask("a") == 1
        heavy(tmp_path, "c", 3)
        await world.loader.load("c")
        assert world.states == {"a/1": "READY", "b/1": "UNAVAILABLE", "c/1": "READY"}
        assert world.reason("b") == "evicted: it made room for others, and is loaded again when it is asked for"
        assert world.loader.served() == {"a": ["1"], "b": ["1"], "c": ["1"]}
        with pytest.raises(Unavailable) as caught:
            world.catalog.find("b")
        assert (caught.value.code, caught.value.details["retry_after_s"]) == ("not_ready", 1)
        await asyncio.sleep(0)
        assert world.reason("b").startswith("evicted")  # to look at it is not to ask for it
        for _ in range(5):
            world.catalog.call("b")
        await until(lambda: world.states["b/1"] == "READY" and not world.loader._held)
        assert await world.ask("b") == 2
        assert [entry.name for entry in world.loader.index(ready_only=True)] == ["b", "c"]

    run(tmp_path, story, memory_bytes=TWO)


def test_at_the_start_what_fits_is_loaded_and_pinned_ones_never_go(tmp_path: Path) -> None:
    configure(heavy(tmp_path, "a"), "keep = 1", "pin = true")
    for name in ("b", "c"):
        heavy(tmp_path, name)

    async def story(world: World) -> None:
        assert world.states == {"a/1": "READY", "b/1": "UNAVAILABLE", "c/1": "READY"}
        configure(heavy(tmp_path, "d"), "keep = 1", "pin = true")
        await world.loader.load("d")
        assert world.states == {"a/1": "READY", "b/1": "UNAVAILABLE", "c/1": "UNAVAILABLE", "d/1": "READY"}
        heavy(tmp_path, "e")
        with pytest.raises(Setup) as caught:
            await world.loader.load("e")
        assert caught.value.code == "over_memory"
        assert world.reason("e").startswith("over_memory: ")
        configure(tmp_path / "a", "keep = 1")
        engine = world.catalog.find("a")
        await world.loader.load("a")  # no longer pinned
        assert world.catalog.find("a") is engine
        await world.loader.load("e")
        assert [entry.name for entry in world.loader.index(ready_only=True)] == ["d", "e"]

    run(tmp_path, story, memory_bytes=TWO)


def test_all_versions_of_a_model_go_and_come_together(tmp_path: Path) -> None:
    heavy(tmp_path, "a", 1)
    heavy(tmp_path, "a", 2, "2")
    heavy(tmp_path, "b")

    async def story(world: World) -> None:
        assert world.states == {"a/1": "UNAVAILABLE", "a/2": "UNAVAILABLE", "b/1": "READY"}
        heavy(tmp_path, "a", 3, "3")  # what came meanwhile is for a load to take, in all workers
        world.catalog.call("a")
        await until(lambda: world.states["a/2"] == "READY")
        assert (await world.ask("a"), await world.ask("a", version="1")) == (2, 1)

    run(tmp_path, story, memory_bytes=TWO)


def test_what_made_room_may_be_unloaded_or_fail_to_come_back(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        heavy(tmp_path, name)

    async def story(world: World) -> None:
        assert world.states == {"a/1": "UNAVAILABLE", "b/1": "UNAVAILABLE", "c/1": "READY"}
        await world.loader.unload("a")
        assert world.reason("a") == "unloaded"
        with pytest.raises(Missing, match="'a' is unloaded"):
            world.catalog.find("a")
        heavy(tmp_path, "b", "1 / 0")
        world.catalog.call("b")
        await until(lambda: world.reason("b").startswith("broken_code"))
        await until(lambda: not world.loader._tasks)
        with pytest.raises(Unavailable) as caught:
            world.catalog.find("b")
        assert caught.value.details["retry_after_s"] == RETRY_S
        await world.loader.load("c")
        assert await world.ask("c") == 1

    run(tmp_path, story, memory_bytes=ONE)


def test_without_a_limit_nobody_counts_who_was_used(tmp_path: Path) -> None:
    code(tmp_path, "m")

    async def story(world: World) -> None:
        assert world.loader.observers == ()

    run(tmp_path, story)


def test_over_http_who_asks_is_told_when_to_come_back_and_who_only_looks_calls_nobody_back(tmp_path: Path) -> None:
    for number, name in enumerate(["a", "b"], 1):
        heavy(tmp_path / "models", name, number)
    flags = ("--repository-memory-bytes", str(ONE), "--workers", "0")
    with serving(tmp_path, *flags, models={}, paths=[tmp_path / "models"]) as served:
        question = infer("a", "x", [1.0, 1.0], shape=[1, 2])
        for path in ("/v2/models/a", "/v2/models/a/ready"):
            assert served.get(path).status == 503
        assert served.get("/v2/health/ready").status == 200
        reply = served.ask(question)
        assert (reply.status, reply.code, reply.header(b"retry-after")) == (503, "not_ready", b"1")
        assert eventually(lambda: served.ask(question).status == 200)
        assert served.get("/v2/models/b").status == 503


def test_over_http_nothing_is_ready_before_a_model_is_loaded(tmp_path: Path) -> None:
    code(tmp_path / "models", "m", 3)
    with serving(
        tmp_path, "--repository-load", "none", models={}, paths=[tmp_path / "models"], environ={"FORETELL_ADMIN_KEY": "k"}
    ) as served:
        question = infer("m", "x", [1.0, 1.0], shape=[1, 2])
        assert (served.get("/v2/health/ready").status, served.get("/v2/health/live").status) == (503, 200)
        reply = served.ask(question)
        assert (reply.status, reply.code, reply.json()["error"]) == (
            *(404, "unknown_model"),
            "model 'm' is not served: not loaded yet",
        )
        assert served.ask(post("/v2/repository/models/m/load", b"", "authorization: Bearer k")).status == 200
        assert (served.get("/v2/health/ready").status, served.ask(question).status) == (200, 200)
        assert served.ask(post("/v2/repository/models/m/unload", b"", "authorization: Bearer k")).status == 200
        assert served.ask(question).json()["error"] == "model 'm' is unloaded: an administrator can load it again"
        assert served.get("/v2/health/ready").status == 503
