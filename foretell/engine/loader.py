"""Loads models into the catalog and takes them out again, with one honest state of each to read."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from foretell.engine.budget import Budget, Evicted
from foretell.engine.catalog import Catalog
from foretell.engine.change import Change
from foretell.engine.chosen import Chosen, check_all, unknown_model
from foretell.engine.engine import Engine
from foretell.engine.poll import Poll
from foretell.engine.start import UNFINISHED, Loaded, load_version, sizes
from foretell.engine.states import IndexEntry, Key, State, States, reason_of
from foretell.engine.suspects import Suspects
from foretell.engine.traffic import check_alike
from foretell.errors import Busy, ForetellError, Setup
from foretell.memory import set_aside_more, tidy
from foretell.passage import Observer
from foretell.repository import Repository, incomplete
from foretell.repository.checksums import verify
from foretell.repository.files import Ingredients, ingredients
from foretell.repository.model_folder import Found, ModelSource
from foretell.repository.pipeline_file import PipelineFile
from foretell.settings import Settings

log = logging.getLogger("foretell")
T = TypeVar("T")
WHERE = {"inline": "the event loop", "thread": "a thread of its own", "process": "a process of its own"}
EVICTED = "evicted: it made room for others, and is loaded again when it is asked for"


class Loader:
    """Knows every version that was found, loaded or not. It lives on the event loop; loading itself runs in threads.

    One change of a model runs at a time, and goes on when its caller goes away. It is a ``Control``.
    """

    def __init__(
        self, catalog: Catalog, settings: Settings, observers: Sequence[Observer] = (), suspects: Suspects | None = None
    ) -> None:
        self.catalog = catalog
        self.settings = settings
        self.suspects = suspects
        self.budget = Budget(settings.repository.memory_bytes // max(1, settings.workers))
        self.observers: Sequence[Observer] = (*observers, self.budget) if self.budget.most_bytes else tuple(observers)
        self.chosen = Chosen(settings.repository.load)
        self.states = States()
        self.loaded: dict[Key, Loaded] = {}
        self.unloaded: set[str] = set()  # by name: until they are loaded by name
        self._configs: dict[str, PipelineFile] = {}
        self._repository = Repository([])
        self._held: set[str] = set()
        self._prepared: set[Change] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        catalog.absent = self._why_absent
        catalog.wanted = self._call_back

    async def start(
        self, repository: Repository, served: Mapping[str, Sequence[str]] | None = None, lacking: Collection[str] | None = None
    ) -> None:
        """Load what ``repository.load`` names, or exactly the versions of ``served``; then the catalog is complete.

        A model of ``served`` without versions is one that was unloaded. Raises Setup for the first that fails; unless
        ``lacking`` names models that this server lacks, maybe none: then that one is lacking too, and others are served."""
        self._repository = repository
        there = await asyncio.to_thread(repository.scan)
        names = [name for name, versions in served.items() if versions] if served is not None else self.chosen.of(there)
        self.note(there)
        if served is not None:
            self.unloaded = {name for name, versions in served.items() if not versions}
        if lacking is None:
            check_all(names, there)
        self.catalog.lacking.update(lacking or ())
        for name in names:
            try:
                if check_all([name], there):
                    await self._run(self._start(name, None if served is None else served[name]))
            except Setup as error:
                if lacking is None:
                    raise
                self.catalog.lacking.add(name)
                log.error("model %s is served no longer: what is on disk now cannot be loaded (%s)", name, error)
        self.catalog.complete = True

    def served(self) -> dict[str, list[str]]:
        """The versions of each model that are served, also of those that make room for others; none of one that is unloaded."""
        names = dict.fromkeys((name for name, _ in self.loaded), True) | dict.fromkeys(self.budget.evicted, True)
        return {name: [] for name in sorted(self.unloaded)} | {name: self._versions(name) for name in names}

    def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        return self.states.index(ready_only=ready_only, outages=self.catalog.outages())

    async def rescan(self) -> None:
        self.note(await asyncio.to_thread(self._repository.scan))

    def note(self, there: Sequence[Found]) -> None:
        """Have the index name what a look at the disk found."""
        self.states.note_all(there, self.loaded)

    async def load(self, name: str) -> None:
        """Load what is on disk now of a model: what is new or changed comes in beside the old, which is then drained.

        When that fails, what was served goes on. Raises Missing ``unknown_model``, Busy or Setup.
        """
        await self._run(self._load(name))

    async def unload(self, name: str) -> None:
        """Take out all versions of a model: what comes is refused, what has come is answered, then they are closed.

        Raises Missing or Busy."""
        if name not in self.states.names():
            raise unknown_model(name)
        await self._run(self._unload(name))

    async def prepare(self, name: str) -> Change:
        """The first half of ``load``: what is new or changed is loaded and warm, and serves nothing yet.

        Nothing else may change the model until the change is committed or abandoned; if the caller goes away, it is abandoned.
        Raises as ``load``.
        """
        task = self._spawn(self._prepare(name))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon_late)
            raise

    async def watch(self, load: Callable[[str], Awaitable[None]], unload: Callable[[str], Awaitable[None]]) -> None:
        """Look at the disk every ``repository.poll_s``, and have what came, changed or went loaded or unloaded. Never ends."""
        poll = Poll(self, self._repository, load, unload)
        while self.settings.repository.poll_s:
            await asyncio.sleep(self.settings.repository.poll_s)
            await poll.look()

    async def close(self) -> None:
        """Stop every engine, once it has answered what it runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._drop(change) for change in self._prepared))
        await asyncio.gather(*(engine.stop() for engine in self.catalog))

    def minds(self, name: str) -> bool:
        """Whether a model is looked after: not one that was unloaded, nor one that ``repository.load`` leaves out."""
        return name not in self.unloaded and (name in self.chosen or name in self.served())

    def differs(self, found: Found, made: Sequence[Ingredients]) -> bool:
        """Whether loading a model that was found, made from this, would change anything."""
        name = found.name
        if name in self.budget.evicted:
            return False  # it is read anew when it is asked for
        ours = {key: each.made for key, each in self.loaded.items() if key[0] == name}
        theirs = {(name, each.source.version): each for each in made}
        ours = {key: made for key, made in ours.items() if key in theirs or key[1] not in found.incomplete}
        return ours != theirs or self._configs.get(name) != found.sources[0].config

    def forget(self, name: str) -> None:
        """A model that is gone from the disk, and no longer served, may come back as a new one."""
        self.unloaded.discard(name)
        self.states.note(Found(name), self.loaded)

    def _versions(self, name: str) -> list[str]:
        evicted = self.budget.evicted.get(name)
        return list(evicted.versions) if evicted else sorted((key[1] for key in self.loaded if key[0] == name), key=int)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work that is not taken back when its caller goes away."""
        return await asyncio.shield(self._spawn(work))

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at here, in case that the caller who would be told has gone away

    def _abandon_late(self, task: "asyncio.Task[Change]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._spawn(task.result().abandon())

    def _hold(self, name: str) -> None:
        if name in self._held:
            raise Busy("being_changed", f"model {name[:128]!r} is being loaded or unloaded: try again", retry_after_s=1)
        self._held.add(name)

    async def _load(self, name: str) -> None:
        change = await self._prepare(name)
        await change.commit()

    async def _start(self, name: str, only: Sequence[str] | None) -> None:
        """Load a model; versions whose files turn out not to be whole are passed over."""
        spoilt: dict[str, str] = {}
        while True:
            try:
                change = await self._prepare(name, only, spoilt)
            except Setup as error:
                if error.code not in UNFINISHED or only is not None:
                    raise
                version = str(error.details.get("version", ""))
                if not version or version in spoilt:
                    return  # none of it is whole: the index says why
                spoilt[version] = reason_of(error)
            else:
                await change.commit()
                return

    async def _unload(self, name: str) -> None:
        self._hold(name)
        try:
            self.unloaded.add(name)
            self.catalog.lacking.discard(name)
            for version in self._versions(name):
                self.states.mark((name, version), State.UNAVAILABLE, "unloaded")
            self.budget.came(name)
            await self._take_out([key for key in self.loaded if key[0] == name], "unloaded")
        finally:
            self._held.discard(name)

    async def _prepare(
        self, name: str, only: Collection[str] | None = None, spoilt: Mapping[str, str] = MappingProxyType({})
    ) -> Change:
        self._hold(name)
        fresh: list[Loaded] = []
        try:
            found = await self._find(name, only, spoilt)
            for source in found.sources:
                fresh += await self._open(source)
            if not fresh and found.folder is not None:
                await asyncio.to_thread(verify, found.folder, holds_versions=True)  # as opening does
            self._check(found, fresh)
        except BaseException as error:
            if isinstance(error, Setup):
                log.warning("model %s could not be loaded: %s", name, error)
            try:
                await self._give_up(fresh)
            finally:
                self._held.discard(name)
            raise
        change = Change(found, fresh, lambda each: self._run(self._serve(each)), lambda each: self._run(self._drop(each)))
        self._prepared.add(change)
        return change

    async def _find(self, name: str, only: Collection[str] | None, spoilt: Mapping[str, str]) -> Found:
        try:
            found = await asyncio.to_thread(self._repository.find, name, only, spoilt)
        except Setup as error:
            self.states.note(Found(name, error=error), self.loaded)
            raise
        if found is None:
            raise unknown_model(name)
        self.states.note(found, self.loaded)
        if not found.sources:
            raise incomplete(found)
        return found

    async def _open(self, source: ModelSource) -> list[Loaded]:
        """Load a version if it is new or has changed, beside what is there; nothing if that is what it would be."""
        key = (source.name, source.version)
        made = await asyncio.to_thread(ingredients, source)
        before = self.loaded.get(key)
        if before is not None and before.made == made and not before.engine.given_up:
            return []
        self.states.mark_coming(key, is_served=before is not None)
        try:
            return [await load_version(source, made, self.settings, self.observers, self.suspects)]
        except BaseException as error:
            self.states.mark_failed(key, is_served=before is not None, error=error)
            raise

    async def _give_up(self, fresh: Sequence[Loaded]) -> None:
        """Close what was loaded and is not to be served."""
        for each in fresh:
            self.states.mark_given_up(each.key, self.loaded.get(each.key))
        await asyncio.gather(*(each.engine.stop() for each in fresh))
        await asyncio.to_thread(tidy)

    def _check(self, found: Found, fresh: Sequence[Loaded]) -> None:
        """That what is to be served fits together, and into memory once all is gone that may go. Raises Setup."""
        name, versions = found.name, [source.version for source in found.sources]
        comes = {each.key: each for each in fresh}
        ours = [comes.get((name, version)) or self.loaded[name, version] for version in versions]
        pinned = sum(size for other, size in sizes(self.loaded).items() if other != name and other in self._pinned())
        try:
            check_alike(name, found.sources[0].config.versions.split(versions), [each.engine for each in ours])
            self.budget.check(name, sum(each.bytes for each in ours), pinned)
        except Setup as error:
            for key in comes:
                self.states.mark_failed(key, is_served=key in self.loaded, error=error)
            raise

    async def _serve(self, change: Change) -> None:
        """The second half of a load: switch, then drain, then make room."""
        found, name = change.found, change.found.name
        try:
            replaced = [self._put(each) for each in change.fresh]
            self.states.mark_ready(name, self.loaded)
            self._configs[name] = config = found.sources[0].config
            self.catalog.label(name, {label: str(version) for label, version in config.versions.labels.items()})
            self.catalog.split(name, config.versions.split([source.version for source in found.sources]))
            self.unloaded.discard(name)
            self.catalog.lacking.discard(name)
            self.budget.came(name)
            self.budget.used(name, time.monotonic())
            kept = {source.version for source in found.sources} | found.incomplete
            gone = [key for key in self.loaded if key[0] == name and key[1] not in kept]
            drained = self._drain([engine for engine in replaced if engine is not None])
            await asyncio.gather(drained, self._take_out(gone, "it is no longer among the versions to serve"))
            await self._make_room(name)
        finally:
            self._release(change)

    async def _drop(self, change: Change) -> None:
        try:
            await self._give_up(change.fresh)
        finally:
            self._release(change)

    def _release(self, change: Change) -> None:
        self._prepared.discard(change)
        self._held.discard(change.found.name)

    def _put(self, fresh: Loaded) -> Engine | None:
        """Serve an engine; gives the one that it takes over from."""
        engine = fresh.engine
        self.loaded[fresh.key] = fresh
        set_aside_more()
        log.info("model %s version %s is ready: it runs in %s", engine.name, engine.version, WHERE[engine.whereabouts])
        return self.catalog.add(engine)

    async def _take_out(self, keys: Sequence[Key], reason: str) -> None:
        engines = [self.catalog.remove(*key) for key in keys]
        for key in keys:
            del self.loaded[key]
            log.info("model %s version %s is taken out: %s", *key, reason)
            self.states.mark(key, State.UNLOADING)
        try:
            await self._drain(engines)
        finally:
            for key in keys:
                self.states.mark(key, State.UNAVAILABLE, reason)

    async def _drain(self, engines: Sequence[Engine]) -> None:
        """Stop engines that get no new requests, once they have answered those that they have."""
        latest = time.monotonic() + self.settings.timeouts.total_s
        try:
            while any(engine.in_flight for engine in engines) and time.monotonic() < latest:
                await asyncio.sleep(0.005)
        finally:
            await asyncio.gather(*(engine.stop() for engine in engines))
        if engines:
            await asyncio.to_thread(tidy)

    async def _make_room(self, name: str, needed: int = 0) -> None:
        """Take out the models that were not used for longest, while all together need too much memory; never this one."""
        while (victim := self.budget.choose(sizes(self.loaded), {name, *self._held, *self._pinned()}, needed)) is not None:
            keys = [key for key in self.loaded if key[0] == victim]
            seconds = sum(self.loaded[key].seconds for key in keys)
            self.budget.evicted[victim] = Evicted(tuple(self._versions(victim)), sizes(self.loaded)[victim], seconds)
            log.info("model %s is taken out to make room for %s", victim, name)
            self._held.add(victim)
            try:
                await self._take_out(keys, EVICTED)
            finally:
                self._held.discard(victim)

    def _pinned(self) -> set[str]:
        return {name for name, config in self._configs.items() if config.model.pin}

    def _why_absent(self, name: str) -> ForetellError | None:
        """Why a model that is asked for is not served; None for one that nobody knows."""
        if name in self.budget.evicted:
            return self.budget.refusal(name, time.monotonic())
        return self.states.refusal(name, is_unloaded=name in self.unloaded, is_starting=not self.catalog.complete)

    def _call_back(self, name: str) -> None:
        """Have a model that made room for others loaded again, once, however many ask for it."""
        if name in self.budget.evicted and name not in self._held and self.budget.call_back(name, time.monotonic()):
            self._spawn(self._bring_back(name))

    async def _bring_back(self, name: str) -> None:
        evicted = self.budget.evicted.get(name)
        if evicted is None:
            return
        try:
            await self._make_room(name, evicted.bytes)
            change = await self._prepare(name, evicted.versions)
        except ForetellError as error:
            self.budget.failed(name, time.monotonic())
            log.warning("model %s could not be loaded again: %s", name, error)
        else:
            await change.commit()
