"""The engines that are being served, by name and version."""

import asyncio

import pytest

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.errors import Missing, Unavailable
from foretell.pipeline import Pipeline
from foretell.settings import EngineSettings
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
