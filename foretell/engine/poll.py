"""Looks at the disk again and again, and has what came, changed or went loaded or unloaded."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from foretell.errors import Busy, ForetellError, Setup
from foretell.repository import Repository
from foretell.repository.files import Ingredients, ingredients, look
from foretell.repository.model_folder import Found

log = logging.getLogger("foretell")
Call = Callable[[str], Awaitable[None]]


class Watched(Protocol):
    """Who knows what is loaded."""

    def note(self, there: Sequence[Found]) -> None: ...

    def minds(self, name: str) -> bool: ...

    def differs(self, found: Found, made: Sequence[Ingredients]) -> bool: ...

    def served(self) -> Mapping[str, Sequence[str]]: ...

    def forget(self, name: str) -> None: ...


@dataclass(frozen=True)
class Sight:
    """One model as it was seen. ``state`` is None when its files changed at that moment: no two such looks are equal."""

    found: Found
    state: object
    made: tuple[Ingredients, ...]


class Poll:
    """``look`` acts on what two looks in a row saw alike, and on each state of a model's files once."""

    def __init__(self, watched: Watched, repository: Repository, load: Call, unload: Call) -> None:
        self.watched = watched
        self.repository = repository
        self.load = load
        self.unload = unload
        self._seen: dict[str, object] | None = None
        self._acted: dict[str, object] = {}

    async def look(self) -> None:
        """One look at all models."""
        sights = await asyncio.to_thread(lambda: [_see(found) for found in self.repository.scan()])
        self.watched.note([sight.found for sight in sights])
        before, self._seen = self._seen, {sight.found.name: sight.state for sight in sights}
        if before is None:
            return
        for sight in sights:
            name = sight.found.name
            if sight.state is not None and before.get(name) == sight.state != self._acted.get(name):
                await self._consider(sight)
        if not any(sight.found.is_path for sight in sights):  # else a whole path is unreadable, or not mounted: it says nothing
            for name, versions in self.watched.served().items():
                if name not in self._seen and name not in before:
                    await self._take_out(name, is_served=bool(versions))

    async def _consider(self, sight: Sight) -> None:
        found = sight.found
        is_new = found.sources and self.watched.differs(found, sight.made) if found.error is None else not found.is_path
        if not is_new or not self.watched.minds(found.name):
            return
        try:
            await self.load(found.name)
        except Busy:
            return  # the next look will tell
        except ForetellError as error:
            log.debug("model %s stays as it was: %s", found.name, error)
        self._acted[found.name] = sight.state

    async def _take_out(self, name: str, *, is_served: bool) -> None:
        log.info("model %s is gone from the disk", name)
        try:
            if is_served:
                await self.unload(name)
        except Busy:
            return
        except ForetellError as error:
            log.warning("model %s is gone from the disk, but could not be unloaded: %s", name, error)
            return
        self._acted.pop(name, None)
        self.watched.forget(name)


def _see(found: Found) -> Sight:
    try:
        made = tuple(map(ingredients, found.sources))
        return Sight(found, (look(found), made), made)
    except Setup:
        return Sight(found, None, ())
