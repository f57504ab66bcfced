"""Loads models into the catalog and takes them out again, with one honest state of each to read."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from foretell.backends import ModelOptions
from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.errors import Busy, ForetellError, Missing, Setup
from foretell.passage import Observer
from foretell.repository import ModelSource, open_pipeline
from foretell.settings import Settings, override

log = logging.getLogger("foretell")


class State(StrEnum):
    """Where a version of a model is, in the Open Inference Protocol's words."""

    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"


@dataclass(frozen=True)
class IndexEntry:
    """One line of the repository's index; ``reason`` says why a version is not ready."""

    name: str
    version: str
    state: State
    reason: str = ""


class Loader:
    """Knows every model that was found, loaded or not. It lives on the event loop; loading itself runs in threads."""

    def __init__(self, catalog: Catalog, settings: Settings, observers: Sequence[Observer] = ()) -> None:
        self.catalog = catalog
        self.settings = settings
        self.observers = tuple(observers)
        self._sources: dict[tuple[str, str], ModelSource] = {}
        self._states: dict[tuple[str, str], IndexEntry] = {}

    async def start(self, sources: Sequence[ModelSource]) -> None:
        """Load everything that the server is started with; then the catalog is complete. Raises Setup for what fails."""
        for source in sources:
            self._sources[source.name, source.version] = source
            self._mark(source, State.UNAVAILABLE, "not loaded yet")
        for source in sources:
            await self._open(source)
        self.catalog.complete = True

    def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        """Every version of every model that is known, by name and version."""
        entries = [self._states[key] for key in sorted(self._states, key=lambda key: (key[0], int(key[1])))]
        return [entry for entry in entries if entry.state is State.READY or not ready_only]

    async def load(self, name: str) -> None:
        """Load every version of a model that is not ready. Raises Missing, Busy or Setup."""
        for source in self._idle(name):
            if self._states[source.name, source.version].state is not State.READY:
                await self._open(source)

    async def unload(self, name: str) -> None:
        """Take a model out: what comes is refused, what runs is answered, then it is closed. Raises Missing or Busy."""
        for source in self._idle(name):
            entry = self._states[source.name, source.version]
            if entry.state is State.READY:
                engine = self.catalog.remove(source.name, source.version)
                self._mark(source, State.UNLOADING)
                await engine.stop()
                self._mark(source, State.UNAVAILABLE, "unloaded")

    async def close(self) -> None:
        """Stop every engine, once it has answered what it runs."""
        await asyncio.gather(*(engine.stop() for engine in self.catalog))

    async def _open(self, source: ModelSource) -> None:
        self._mark(source, State.LOADING)
        try:
            engine = await start_engine(source, self.settings, self.observers)
        except ForetellError as error:
            self._mark(source, State.UNAVAILABLE, f"{error.code}: it could not be loaded")
            raise
        self.catalog.add(engine)
        self._mark(source, State.READY)
        where = {"inline": "the event loop", "thread": "a thread of its own"}[engine.place.name]
        log.info("model %s version %s is ready: it runs in %s", engine.name, engine.version, where)

    def _idle(self, name: str) -> list[ModelSource]:
        """The versions of a model, none of which is being loaded or unloaded at this moment."""
        sources = [source for key, source in self._sources.items() if key[0] == name]
        if not sources:
            raise Missing("unknown_model", f"there is no model {name[:128]!r} in this server's repository")
        if any(self._states[name, source.version].state in (State.LOADING, State.UNLOADING) for source in sources):
            raise Busy("being_changed", f"model {name!r} is being loaded or unloaded: try again", retry_after_s=1)
        return sources

    def _mark(self, source: ModelSource, state: State, reason: str = "") -> None:
        self._states[source.name, source.version] = IndexEntry(source.name, source.version, state, reason)


async def start_engine(source: ModelSource, settings: Settings, observers: Sequence[Observer] = ()) -> Engine:
    """One model, loaded and warmed within ``timeouts.load_s``. Raises Setup."""
    changes: Mapping[str, object] = source.config.engine
    engine_settings = override(settings.engine, changes, f"[engine] of model {source.name!r}")
    options = ModelOptions(threads=engine_settings.threads)
    try:
        async with asyncio.timeout(settings.timeouts.load_s):
            pipeline = await asyncio.to_thread(open_pipeline, source, model_options=options)
            engine = Engine(source.name, source.version, pipeline, engine_settings, observers)
            await engine.start()
    except TimeoutError as error:
        seconds = settings.timeouts.load_s
        text = f"{source.path} was not loaded within {seconds:g} s: raise timeouts.load_s or make it smaller"
        raise Setup("broken_model", text) from error
    return engine
