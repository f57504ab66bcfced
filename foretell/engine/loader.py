"""Loads models into the catalog and takes them out again, with one honest state of each to read."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from foretell.backends import ModelOptions
from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.errors import CODES, Busy, ForetellError, Missing, Setup
from foretell.passage import Observer
from foretell.repository import Repository, open_pipeline
from foretell.repository.model_folder import Found, ModelSource, is_attribute
from foretell.settings import Settings, override

log = logging.getLogger("foretell")
Fingerprint = frozenset[tuple[str, int, int, int]]


class State(StrEnum):
    """Where a version of a model is, in the Open Inference Protocol's words."""

    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"


@dataclass(frozen=True)
class IndexEntry:
    """One line of the repository's index; ``reason`` says why a version is not ready, or is an older state of its files."""

    name: str
    version: str
    state: State
    reason: str = ""


@dataclass(frozen=True)
class _Loaded:
    """What an engine was made from; ``files`` tells whether that has changed."""

    engine: Engine
    source: ModelSource
    files: Fingerprint


class Loader:
    """Knows every version that was found, loaded or not. It lives on the event loop; loading itself runs in threads.

    One change of a model runs at a time, and goes on when its caller goes away.
    """

    def __init__(self, catalog: Catalog, settings: Settings, observers: Sequence[Observer] = ()) -> None:
        self.catalog = catalog
        self.settings = settings
        self.observers = tuple(observers)
        self._repository = Repository([])
        self._loaded: dict[tuple[str, str], _Loaded] = {}
        self._states: dict[tuple[str, str], IndexEntry] = {}
        self._changes: dict[str, asyncio.Task[None]] = {}

    async def start(self, repository: Repository) -> None:
        """Load everything that is found now; then the catalog is complete. Raises Setup for the first that fails."""
        self._repository = repository
        models = await asyncio.to_thread(repository.models)
        for found in models:
            self._note(found)
        for found in models:
            await self._alone(found.name, self._bring(found))
        self.catalog.complete = True

    def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        """Every version of every model that is known, by name and version."""
        entries = [self._states[key] for key in sorted(self._states, key=lambda key: (key[0], int(key[1])))]
        return [entry for entry in entries if entry.state is State.READY or not ready_only]

    async def rescan(self) -> None:
        """Look at the disk again, so that the index names what has come; nothing is loaded. What is wrong is left out."""
        models = await asyncio.to_thread(self._repository.scan)
        for name in {name for name, _ in self._states} - {found.name for found in models}:
            self._note(Found(name))
        for found in models:
            self._note(found)

    async def load(self, name: str) -> None:
        """Load what is on disk now of a model: what is new or changed comes in beside the old, which is then drained.

        When that fails, what was served goes on. Raises Missing ``unknown_model``, Busy or Setup.
        """
        await self._alone(name, self._load(name))

    async def unload(self, name: str) -> None:
        """Take out all versions of a model: what comes is refused, what has come is answered, then they are closed.

        Raises Missing or Busy.
        """
        if not any(key[0] == name for key in self._states):
            raise _unknown(name)
        await self._alone(name, self._take_out([key for key in self._loaded if key[0] == name], "unloaded"))

    async def close(self) -> None:
        """Stop every engine, once it has answered what it runs."""
        for task in self._changes.values():
            task.cancel()
        await asyncio.gather(*self._changes.values(), return_exceptions=True)
        await asyncio.gather(*(engine.stop() for engine in self.catalog))

    async def _alone(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Run a change of a model, unless another runs; it is not taken back when the caller goes away."""
        if name in self._changes:
            work.close()
            raise Busy("being_changed", f"model {name[:128]!r} is being loaded or unloaded: try again", retry_after_s=1)
        task = self._changes[name] = asyncio.ensure_future(work)
        task.add_done_callback(lambda done: self._changed(name, done))
        await asyncio.shield(task)

    def _changed(self, name: str, task: "asyncio.Task[None]") -> None:
        del self._changes[name]
        if not task.cancelled():
            task.exception()  # looked at here, in case that the caller who would be told has gone away

    async def _load(self, name: str) -> None:
        try:
            found = await asyncio.to_thread(self._repository.find, name)
            if found is None:
                raise _unknown(name)
            self._note(found)
            await self._bring(found)
        except Setup as error:
            log.warning("model %s could not be loaded: %s", name, error)
            raise

    async def _bring(self, found: Found) -> None:
        """Have exactly the versions and labels that were found; one that goes is there until all that come are."""
        for source in found.sources:
            await self._open(source)
        labels = found.sources[0].config.versions.labels
        self.catalog.label(found.name, {label: str(version) for label, version in labels.items()})
        wanted = {(source.name, source.version) for source in found.sources}
        gone = [key for key in self._loaded if key[0] == found.name and key not in wanted]
        await self._take_out(gone, "it is no longer among the versions to serve")

    async def _open(self, source: ModelSource) -> None:
        """Load a version if it is new or has changed: beside what is there, which it takes over from, and which then goes."""
        key = (source.name, source.version)
        before = self._loaded.get(key)
        files = await asyncio.to_thread(fingerprint, source)
        if before is not None and before.files == files and before.source == source:
            return
        state = State.LOADING if before is None else State.READY
        self._mark(key, state, "" if before is None else "its changed files are being loaded")
        try:
            engine = await start_engine(source, self.settings, self.observers)
        except BaseException as error:
            self._mark_failed(key, before is not None, error)
            raise
        self._loaded[key] = _Loaded(engine, source, files)
        self._mark(key, State.READY)
        where = {"inline": "the event loop", "thread": "a thread of its own"}[engine.place.name]
        log.info("model %s version %s is ready: it runs in %s", engine.name, engine.version, where)
        replaced = self.catalog.add(engine)
        if replaced is not None:
            await self._drain(replaced)

    async def _take_out(self, keys: Sequence[tuple[str, str]], reason: str) -> None:
        engines = [self.catalog.remove(*key) for key in keys]
        for key in keys:
            del self._loaded[key]
            self._mark(key, State.UNLOADING)
        try:
            await asyncio.gather(*map(self._drain, engines))
        finally:
            for key in keys:
                self._mark(key, State.UNAVAILABLE, reason)

    async def _drain(self, engine: Engine) -> None:
        """Stop an engine that gets no new requests, once it has answered those that it has."""
        latest = time.monotonic() + self.settings.timeouts.total_s
        try:
            while engine.in_flight and time.monotonic() < latest:
                await asyncio.sleep(0.005)
        finally:
            await engine.stop()

    def _note(self, found: Found) -> None:
        """Have the index name what was found and what is loaded, and nothing else of this model."""
        there = {source.version for source in found.sources} | set(found.passed_over)
        for key in [key for key in self._states if key[0] == found.name and key[1] not in there and key not in self._loaded]:
            del self._states[key]
        for source in found.sources:
            self._states.setdefault((source.name, source.version), _unloaded(source.name, source.version, "not loaded yet"))
        for version, reason in found.passed_over.items():
            if (found.name, version) not in self._loaded:
                self._states[found.name, version] = _unloaded(found.name, version, reason)

    def _mark(self, key: tuple[str, str], state: State, reason: str = "") -> None:
        self._states[key] = IndexEntry(*key, state, reason)

    def _mark_failed(self, key: tuple[str, str], is_served: bool, error: BaseException) -> None:
        code = error.code if isinstance(error, ForetellError) else "internal"
        reason = f"{code}: {CODES[code][1]}"
        if is_served:
            self._mark(key, State.READY, f"its changed files could not be loaded, and what was there before goes on: {reason}")
        else:
            self._mark(key, State.UNAVAILABLE, reason)


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


def fingerprint(source: ModelSource) -> Fingerprint:
    """Size and time of every file that a version is made from: those of its own folder, and those beside its configuration."""
    place = Path(source.path.rpartition(":")[0] if is_attribute(source.path) else source.path).parent
    try:
        files = {*source.folder.iterdir(), *(place.rglob("*") if place != source.folder else ())}
        states = frozenset((str(file), *_state(file)) for file in files if file.is_file() and file.parent.name != "__pycache__")
    except OSError as error:
        raise Setup("missing_file", f"{error.filename} is gone or cannot be read ({error.strerror}): load it again") from error
    return states.union(*map(fingerprint, source.members))


def _state(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _unloaded(name: str, version: str, reason: str) -> IndexEntry:
    return IndexEntry(name, version, State.UNAVAILABLE, reason)


def _unknown(name: str) -> Missing:
    return Missing("unknown_model", f"there is no model {name[:128]!r} in this server's repository")
