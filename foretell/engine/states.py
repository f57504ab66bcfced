"""Where each version of each model is: what the repository's index tells, and the calls that change it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from foretell.codes import CODES
from foretell.engine.start import Loaded
from foretell.errors import ForetellError, Missing, Unavailable
from foretell.repository.model_folder import Found

COMING = "its changed files are being loaded"
_SPOILT = "what is on disk now cannot be loaded, and what was there before goes on"
Key = tuple[str, str]
"""Name and version of a model."""


class State(StrEnum):
    """Where a version of a model is, in the Open Inference Protocol's words."""

    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"


@dataclass(frozen=True)
class IndexEntry:
    """One line of the repository's index.

    ``reason`` says why a version is not ready, or is an older state of its files, or that its files were verified.
    ``version`` is empty for a model that could not be read, so that none of its versions is known.
    """

    name: str
    version: str
    state: State
    reason: str = ""


class Control(Protocol):
    """What a door may do to the repository. In a server of many workers it speaks for all of them."""

    def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        """Every version of every model that is known, by name and version."""
        ...

    async def rescan(self) -> None:
        """Look at the disk again, so that the index names what has come; nothing is loaded."""
        ...

    async def load(self, name: str) -> None:
        """Load what is on disk now of a model. Raises Missing, Busy or Setup."""
        ...

    async def unload(self, name: str) -> None:
        """Take out all versions of a model. Raises Missing or Busy."""
        ...


class States:
    """The state of every version that is known, and what is wrong with the models that could not be read."""

    def __init__(self) -> None:
        self._entries: dict[Key, IndexEntry] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __getitem__(self, key: Key) -> IndexEntry:
        return self._entries[key]

    def of(self, name: str) -> list[IndexEntry]:
        """What is known of one model, oldest version first; nothing for a model that is not there."""
        return [entry for entry in self.index() if entry.name == name]

    def names(self) -> set[str]:
        return {name for name, _ in self._entries}

    def index(self, *, ready_only: bool = False, outages: Mapping[Key, str] = MappingProxyType({})) -> list[IndexEntry]:
        """Every entry, by name and version; what is ready, but has an outage, is not."""
        entries = [_now(self._entries[key], outages.get(key)) for key in sorted(self._entries, key=_order)]
        return [entry for entry in entries if entry.state is State.READY or not ready_only]

    def mark(self, key: Key, state: State, reason: str = "") -> None:
        self._entries[key] = IndexEntry(*key, state, reason)

    def mark_ready(self, name: str, loaded: Mapping[Key, Loaded]) -> None:
        """That all of a model that is loaded is as the disk has it."""
        for key, each in loaded.items():
            if key[0] == name:
                self.mark(key, State.READY, each.reason)

    def mark_given_up(self, key: Key, before: Loaded | None) -> None:
        """That it is loaded no longer, where that was not for a fault of its own; ``before`` is what goes on."""
        if before is not None and self._entries[key].reason == COMING:
            self.mark(key, State.READY, before.reason)
        elif before is None and self._entries[key].state is State.LOADING:
            self.mark(key, State.UNAVAILABLE, "not loaded yet")

    def mark_coming(self, key: Key, *, is_served: bool) -> None:
        """That it is being loaded, perhaps beside what is served."""
        self.mark(key, State.READY if is_served else State.LOADING, COMING if is_served else "")

    def mark_failed(self, key: Key, *, is_served: bool, error: BaseException) -> None:
        """That loading it failed; what of it was served before goes on."""
        reason = reason_of(error)
        if is_served:
            text = f"its changed files could not be loaded, and what was there before goes on: {reason}"
            self.mark(key, State.READY, text)
        else:
            self.mark(key, State.UNAVAILABLE, reason)

    def refusal(self, name: str, *, is_unloaded: bool, is_starting: bool) -> ForetellError | None:
        """What those are told who ask for a model that is not served; None for one that nobody knows."""
        entries = self.of(name)
        if not self._entries and is_starting:  # the disk has not been looked at yet
            return Unavailable("not_ready", "the server is starting: try again", retry_after_s=1)
        if not entries:
            return None
        if is_starting or any(entry.state is State.LOADING for entry in entries):
            return Unavailable("not_ready", f"model {name!r} is being loaded: try again", retry_after_s=1)
        if is_unloaded:
            return Missing("unknown_model", f"model {name!r} is unloaded: an administrator can load it again")
        return Missing("unknown_model", f"model {name!r} is not served: {entries[-1].reason}")

    def note_all(self, there: Sequence[Found], loaded: Mapping[Key, Loaded]) -> None:
        """Know what a look at the whole disk found."""
        for name in self.names() - {found.name for found in there}:
            self.note(Found(name), loaded)
        for found in there:
            self.note(found, loaded)

    def note(self, found: Found, loaded: Mapping[Key, Loaded]) -> None:
        """Know what was found and what is loaded of a model, and nothing else of it."""
        there = {source.version for source in found.sources} | set(found.passed_over)
        for key in [key for key in self._entries if key[0] == found.name and key[1] not in there and key not in loaded]:
            if self._entries[key].state in {State.READY, State.UNAVAILABLE} and (found.error is None or not key[1]):
                del self._entries[key]
        if found.error is not None:
            self._note_error(found.name, found.error, loaded)
        else:
            self._note_good(found.name, loaded)
        for source in found.sources:
            key = (source.name, source.version)
            if key not in self._entries:
                self.mark(key, State.UNAVAILABLE, "not loaded yet")
        for version, reason in found.passed_over.items():
            if (found.name, version) not in loaded:
                self.mark((found.name, version), State.UNAVAILABLE, reason)

    def _note_good(self, name: str, loaded: Mapping[Key, Loaded]) -> None:
        """What was wrong on disk is so no longer."""
        for key, each in loaded.items():
            if key[0] == name and self._entries[key].reason.startswith(_SPOILT):
                self.mark(key, State.READY, each.reason)

    def _note_error(self, name: str, error: ForetellError, loaded: Iterable[Key]) -> None:
        """What is wrong with a model on disk: beside what of it is served, which goes on, or instead of it."""
        reason = reason_of(error)
        served = [key for key in loaded if key[0] == name]
        for key in served:
            if self._entries[key].state is State.READY:
                self.mark(
                    key, State.READY, f"what is on disk now cannot be loaded, and what was there before goes on: {reason}"
                )
        known = [key for key in self._entries if key[0] == name and key not in served]
        for key in known or ([] if served else [(name, "")]):
            self.mark(key, State.UNAVAILABLE, reason)


def reason_of(error: BaseException) -> str:
    """A failure for those who may not see paths: its code, and what that means."""
    code = error.code if isinstance(error, ForetellError) else "internal"
    return f"{code}: {CODES[code][1]}"


def _now(entry: IndexEntry, outage: str | None) -> IndexEntry:
    if outage is None or entry.state is not State.READY:
        return entry
    return replace(entry, state=State.UNAVAILABLE, reason=outage)


def _order(key: Key) -> tuple[str, int]:
    return key[0], int(key[1] or -1)
