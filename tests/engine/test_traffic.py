"""Which version answers a request that names none."""

import asyncio
import random
from collections import Counter

import pytest

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.engine.traffic import Traffic, check_alike
from foretell.errors import Setup
from foretell.pipeline import Pipeline
from foretell.repository.split import Split
from foretell.settings import EngineSettings
from foretell.tensors import Signature, TensorSpec
from foretell.testing import SMALL, FakeBackend

USERS = [f"user-{number}" for number in range(10_000)]
OTHER = Signature(SMALL.inputs, (TensorSpec.parse("y", "FP32[3]"),))


def engine(version: str, signature: Signature = SMALL) -> Engine:
    return Engine("m", version, Pipeline(FakeBackend(signature=signature)), EngineSettings())


def served(*versions: str) -> Catalog:
    """A catalog with these versions of a model, ready."""

    async def start() -> Catalog:
        catalog = Catalog()
        for version in versions:
            started = engine(version)
            await started.start()
            catalog.add(started)
        return catalog

    return asyncio.run(start())


def test_requests_are_split_by_weight() -> None:
    traffic = Traffic({"1": 95, "2": 5}, draw=random.Random(7).random)
    counts = Counter(traffic.pick() for _ in range(20_000))
    assert counts["2"] / 20_000 == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize(("drawn", "version"), [(0.0, "1"), (0.249, "1"), (0.25, "2"), (0.999999, "2")])
def test_weights_need_not_be_a_hundred(drawn: float, version: str) -> None:
    assert Traffic({"1": 1, "2": 3}, draw=lambda: drawn).pick() == version


def test_a_key_goes_to_the_same_version_every_time_and_keys_follow_the_weights() -> None:
    first, second = (Traffic({"1": 95, "2": 5}, "x-user-id") for _ in range(2))
    picked = [first.pick(user) for user in USERS]
    assert picked == [second.pick(user) for user in USERS]
    assert Counter(picked)["2"] / len(USERS) == pytest.approx(0.05, abs=0.01)


def test_a_larger_weight_moves_callers_to_that_version_only() -> None:
    before, after = Traffic({"1": 95, "2": 5}), Traffic({"1": 90, "2": 10})
    moves = Counter((before.pick(user), after.pick(user)) for user in USERS)
    assert moves["2", "1"] == 0
    assert moves["1", "2"] / len(USERS) == pytest.approx(0.05, abs=0.01)


def test_a_version_that_goes_leaves_the_other_callers_where_they_are() -> None:
    before, after = Traffic({"1": 50, "2": 30, "3": 20}), Traffic({"1": 50, "2": 30})
    assert all(after.pick(user) == before.pick(user) for user in USERS if before.pick(user) != "3")


def test_an_empty_key_is_split_by_chance() -> None:
    assert Traffic({"1": 1, "2": 1}, "x-user-id", draw=lambda: 0.9).pick("") == "2"


def test_without_a_split_the_newest_version_answers() -> None:
    catalog = served("1", "2")
    assert catalog.traffic("m") is None
    assert catalog.pick("m").version == "2"


def test_a_shadow_does_not_answer_though_it_is_the_newest() -> None:
    catalog = served("1", "2")
    catalog.split("m", Split({"1": 1.0}, "", "2"))
    assert catalog.pick("m").version == "1"


def test_a_version_that_is_taken_out_leaves_its_share_to_the_others() -> None:
    catalog = served("1", "2", "3")
    catalog.split("m", Split({"1": 1.0, "2": 1.0}))
    catalog.remove("m", "1")
    assert {catalog.pick("m", user).version for user in USERS[:50]} == {"2"}
    catalog.remove("m", "2")
    assert catalog.pick("m").version == "3"


def test_a_split_that_is_taken_back_ends_copies_too() -> None:
    catalog = served("1", "2")
    catalog.split("m", Split({"1": 1.0}, "", "2"))
    assert catalog.find("m", "1").after is not None
    assert catalog.find("m", "2").after is None
    catalog.split("m", None)
    assert catalog.find("m", "1").after is None


@pytest.mark.parametrize("split", [Split({"1": 1.0, "2": 1.0}), Split({"1": 1.0}, "", "2")], ids=["traffic", "shadow"])
def test_versions_of_another_signature_cannot_share_callers(split: Split) -> None:
    with pytest.raises(Setup, match=r"version 1 has the outputs y FP32 \[2\], version 2 has the outputs y FP32 \[3\]"):
        check_alike("m", split, [engine("1"), engine("2", OTHER)])


def test_versions_that_take_no_part_may_be_as_they_like() -> None:
    check_alike("m", Split({"1": 1.0, "3": 1.0}), [engine("1"), engine("2", OTHER), engine("3")])
    check_alike("m", None, [engine("1"), engine("2", OTHER)])
