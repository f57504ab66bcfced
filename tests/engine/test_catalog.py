"""The engines that are being served, by name and version."""

import asyncio
import logging

import pytest

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.engine.loader import Loader
from foretell.errors import Missing, Unavailable
from foretell.pipeline import Pipeline
from foretell.repository.split import Split
from foretell.settings import EngineSettings, Settings
from foretell.testing import FakeBackend


def engine_of(version: str, *, ready: bool = True) -> Engine:
    engine = Engine("m", version, Pipeline(FakeBackend()), EngineSettings())
    if ready:
        asyncio.run(engine.start())
    return engine


def test_the_newest_version_is_found_by_number_not_by_text() -> None:
    catalog = Catalog()
    for version in ("2", "10", "9"):
        catalog.add(engine_of(version))
    assert catalog.find("m").version == "10"
    assert catalog.find("m", "2").version == "2"
    assert catalog.versions("m") == ["2", "9", "10"]


def test_an_unknown_model_and_an_unknown_version_are_told_apart() -> None:
    catalog = Catalog()
    catalog.add(engine_of("1"))
    with pytest.raises(Missing) as model:
        catalog.find("other")
    with pytest.raises(Missing) as version:
        catalog.find("m", "2")
    assert (model.value.code, version.value.code) == ("unknown_model", "unknown_version")


def test_a_model_that_is_not_ready_is_unavailable() -> None:
    catalog = Catalog()
    catalog.add(engine_of("1", ready=False))
    with pytest.raises(Unavailable):
        catalog.find("m")


def test_without_a_number_the_newest_version_that_is_ready_answers() -> None:
    catalog = Catalog()
    catalog.add(engine_of("1"))
    catalog.add(engine_of("2", ready=False))
    assert catalog.find("m").version == "1"
    with pytest.raises(Unavailable):
        catalog.find("m", "2")


def test_a_label_leads_to_its_version() -> None:
    catalog = Catalog()
    catalog.add(engine_of("1"))
    catalog.add(engine_of("2"))
    catalog.label("m", {"stable": "1", "canary": "2", "old": "7"})
    assert catalog.find("m", label="stable").version == "1"
    assert catalog.labels("m") == {"stable": "1", "canary": "2"}
    catalog.label("m", {"stable": "2"})
    assert catalog.find("m", label="stable").version == "2"


def test_an_unknown_label_names_those_that_exist() -> None:
    catalog = Catalog()
    catalog.add(engine_of("1"))
    with pytest.raises(Missing, match="model 'm' has no label 'x': it has none") as none:
        catalog.find("m", label="x")
    assert none.value.code == "unknown_label"
    catalog.label("m", {"stable": "1", "canary": "1"})
    with pytest.raises(Missing, match="it has canary, stable") as long:
        catalog.find("m", label="x" * 10_000)
    assert len(long.value.message) < 300
    with pytest.raises(Missing) as model:
        catalog.find("other", label="stable")
    assert model.value.code == "unknown_model"
    with pytest.raises(Missing):
        catalog.labels("other")


def test_an_engine_may_take_over_from_one_of_its_version() -> None:
    catalog = Catalog()
    old, new = engine_of("1"), engine_of("1")
    assert catalog.add(old) is None
    assert catalog.add(new) is old
    assert catalog.find("m") is new


def test_a_watcher_is_told_at_once_and_of_every_change() -> None:
    catalog, seen = Catalog(), list[int]()
    catalog.watch(lambda: seen.append(len(list(catalog))))
    catalog.add(engine_of("1"))
    catalog.add(engine_of("2"))
    catalog.remove("m", "1")
    catalog.remove("m", "2")
    assert seen == [0, 1, 2, 1, 0]
    with pytest.raises(Missing):
        catalog.find("m")


def test_who_knows_says_why_a_model_is_not_here_and_is_told_when_it_is_to_answer() -> None:
    catalog, called = Catalog(), list[str]()
    catalog.absent = lambda name: Unavailable("not_ready", "it is on its way") if name == "m" else None
    catalog.wanted = called.append
    with pytest.raises(Unavailable, match="on its way"):
        catalog.find("m")
    with pytest.raises(Missing, match="there is no model 'other' here"):
        catalog.find("other")
    catalog.call("m")
    catalog.add(engine_of("1"))
    catalog.call("m")
    assert called == ["m"]


def test_an_engine_that_is_not_ready_can_be_taken_out() -> None:
    catalog = Catalog()
    engine = engine_of("1", ready=False)
    catalog.add(engine)
    assert catalog.remove("m", "1") is engine
    with pytest.raises(Missing):
        catalog.remove("m", "1")


def test_each_change_of_who_answers_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    catalog = Catalog()
    for version in ("1", "2", "3"):
        catalog.add(engine_of(version))
    with caplog.at_level(logging.INFO, "foretell"):
        for _ in range(2):
            catalog.label("m", {"stable": "1"})
            catalog.split("m", Split({"1": 19.0, "2": 1.0}, "x-user-id", "3"))
        catalog.split("m", None)
        catalog.label("m", {})
    assert caplog.messages == [
        "model m: labels: stable is version 1",
        "model m: traffic: 95 % to version 1, 5 % to version 2, the same for the same x-user-id; copies to version 3",
        "model m: its newest version answers what names none",
        "model m: labels: none any more",
    ]


def test_before_the_disk_was_looked_at_no_model_is_said_to_be_unknown() -> None:
    catalog = Catalog()
    Loader(catalog, Settings())
    with pytest.raises(Unavailable) as caught:
        catalog.find("m")
    assert caught.value.code == "not_ready"


def test_a_model_that_was_lost_on_disk_is_unavailable_and_not_unknown() -> None:
    catalog = Catalog()
    catalog.lacking.add("m")
    with pytest.raises(Unavailable, match="as it is on disk"):
        catalog.find("m")
