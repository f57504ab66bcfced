"""Models in code for tests of loading, and a loader that was started on a folder of them."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.engine.loader import Loader
from foretell.engine.states import IndexEntry
from foretell.repository import Repository
from foretell.request import Request
from foretell.settings import RepositorySettings, Settings
from foretell.tensors import Arrays
from foretell.testing import HeldPlace

CODE = """
import foretell
from foretell.testing import FakeBackend

class Model(FakeBackend):
    def __init__(self):
        super().__init__(lambda arrays: {"y": arrays["x"] * FACTOR})
"""
X: Arrays = {"x": np.ones((1, 2), np.float32)}


def code(repository: Path, name: str, factor: int | str = 1, version: str = "1") -> Path:
    """A model in code, which multiplies: ``factor`` that is no number is a mistake when it is loaded."""
    folder = repository / name / version
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / "new.txt"
    new.write_text(CODE.replace("FACTOR", str(factor)) + ("" if isinstance(factor, int) else f"\n{factor}\n"))
    os.replace(new, folder / "app.py")
    config = repository / name / "pipeline.toml"
    if not config.exists():
        configure(repository / name, 'policy = "all"')
    return repository / name


def configure(folder: Path, versions: str, model: str = "") -> None:
    """Write its pipeline.toml, in one step."""
    (folder / "new.toml").write_text(f'[model]\nfile = "app.py:Model"\n{model}\n[versions]\n{versions}\n')
    os.replace(folder / "new.toml", folder / "pipeline.toml")


class World:
    """A loader that was started on a repository."""

    def __init__(self, repository: Path, **settings: Any) -> None:
        self.catalog = Catalog()
        self.loader = Loader(self.catalog, Settings(repository=RepositorySettings(**settings)))
        self.repository = Repository([repository])

    async def ask(self, name: str = "m", **which: str) -> float:
        answer = await self.catalog.find(name, **which).infer(Request(X, time.monotonic() + 10))
        return float(answer["y"].flat[0])

    @property
    def states(self) -> dict[str, str]:
        return {f"{entry.name}/{entry.version}": str(entry.state) for entry in self.loader.index()}

    def reason(self, name: str = "m", version: str = "1") -> str:
        (entry,) = [entry for entry in self.loader.index() if (entry.name, entry.version) == (name, version)]
        return entry.reason

    @property
    def entries(self) -> Sequence[IndexEntry]:
        return self.loader.index()


def run(
    repository: Path,
    story: Callable[[World], Coroutine[Any, Any, None]],
    served: Mapping[str, Sequence[str]] | None = None,
    **settings: Any,
) -> None:
    """A story of a loader; ``settings`` are those of the repository."""

    async def whole() -> None:
        world = World(repository, **settings)
        try:
            await world.loader.start(world.repository, served)
            await story(world)
        finally:
            await world.loader.close()

    asyncio.run(whole())


def hold(engine: Engine) -> HeldPlace:
    """Have the engine's forwards wait until they are released."""
    place = HeldPlace()
    engine.batcher.place = place
    return place


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn, with its threads, until something is so."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)
