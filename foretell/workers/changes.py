"""Loading and unloading in all workers at once: what the supervisor makes of one worker's wish.

A load has two phases: all prepare the model, and when all could, all serve it; when one could not, nobody does.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypedDict

from foretell.errors import Busy, ForetellError, Late
from foretell.workers.channel import Channel, pack_error

log = logging.getLogger("foretell")
Error = Mapping[str, Any] | None
MARGIN_S = 5.0  # a worker bounds its loading by itself, and is waited for a little longer


class State(TypedDict):
    """What a worker has. ``served``: model -> versions; ``lacking``: what it could not load; ``made``: model -> a mark of its
    files, which differs where they do."""

    served: dict[str, list[str]]
    lacking: list[str]
    made: dict[str, int]


class Member(Protocol):
    """A worker, as far as changes go."""

    channel: Channel


class Phase(StrEnum):
    """What a change waits for; the name is the order that was given."""

    PREPARE = "prepare"
    COMMIT = "commit"
    ABANDON = "abandon"
    UNLOAD = "unload"


@dataclass
class Change:
    """One model's change. ``waiting``: who has not yet done what ``phase`` says."""

    number: int
    verb: str
    name: str
    origin: Member
    question: int
    phase: Phase
    ends: float
    members: list[Member] = field(default_factory=list)
    waiting: list[Member] = field(default_factory=list)
    error: Error = None
    marks: set[int | None] = field(default_factory=set)  # of the files that the members have loaded


class Changes:
    """Runs them, one of a model at a time. None begins while a worker is starting, who would not know of it.

    ``members``: the workers that serve, None while one is starting. ``broken`` is told of a worker that could not follow.
    """

    def __init__(
        self, members: Callable[[], Iterable[Member] | None], broken: Callable[[Member, str], None], load_s: float
    ) -> None:
        self.members = members
        self.broken = broken
        self.within_s = load_s + MARGIN_S
        self.known: State | None = None  # what a worker that comes later starts with
        self._queued: list[Change] = []
        self._running: dict[int, Change] = {}
        self._count = 0

    @property
    def running(self) -> bool:
        return bool(self._running)

    def ask(self, origin: Member, question: int, verb: str, name: str, now: float) -> None:
        """A worker's wish: it is told how that ended under the number of its ``question``."""
        if any(each.name == name for each in (*self._queued, *self._running.values())):
            _answer(origin, question, pack_error(being_changed(name)))
            return
        self._count += 1
        phase = Phase.PREPARE if verb == "load" else Phase.UNLOAD
        self._queued.append(Change(self._count, verb, name, origin, question, phase, now + self.within_s))
        self.begin(now)

    def came(self, member: Member, state: State, now: float) -> None:
        """A worker has started, from what is on disk now: where that is not what the others have, all load it."""
        before, self.known = self.known, self.known or state
        if before is None:
            return
        if set(before["lacking"]) != set(state["lacking"]):
            self.known = state  # there was nobody else
        for name, mark in before["made"].items():
            if state["made"].get(name, mark) != mark:
                log.warning("model %s: its files were changed since they were loaded: all workers serve the new ones", name)
                before["made"][name] = state["made"][name]
                self.ask(member, 0, "load", name, now)

    def begin(self, now: float) -> None:
        """Begin what is queued, if no worker is starting."""
        members = self.members()
        if members is None:
            return
        queued, self._queued = self._queued, []
        for change in queued:
            change.members = list(members)
            self._running[change.number] = change
            self._order(change, change.phase, now)

    def did(self, member: Member, number: int, error: Error, state: State, now: float) -> None:
        """A worker has followed an order, or could not."""
        change = self._running.get(number)
        if change is None or member not in change.waiting:
            return
        change.waiting.remove(member)
        if error is not None:
            self._note(change, member, error)
        elif change.phase is not Phase.PREPARE:
            self.known = state
            change.marks.add(state["made"].get(change.name))
        self._go_on(change, now)

    def left(self, member: Member, now: float) -> None:
        """A worker has ended: nobody waits for it."""
        for change in list(self._running.values()):
            if member in change.members:
                change.members.remove(member)
            if member in change.waiting:
                change.waiting.remove(member)
                self._go_on(change, now)

    def tick(self, now: float) -> None:
        """Wait no longer for those who are late."""
        late = [each for each in self._queued if each.ends < now]
        self._queued = [each for each in self._queued if each.ends >= now]
        for change in late:
            _answer(change.origin, change.question, pack_error(being_changed(change.name)))
        for change in [each for each in self._running.values() if each.ends < now]:
            missing, change.waiting = change.waiting, []
            if change.phase is Phase.PREPARE:
                change.error = change.error or pack_error(_late(change.name))
            else:
                for member in missing:
                    self.broken(member, f"it did not {change.phase} model {change.name!r} in time")
            self._go_on(change, now)

    def _order(self, change: Change, phase: Phase, now: float) -> None:
        change.phase = phase
        change.ends = now + self.within_s
        change.waiting = list(change.members)
        for member in change.members:
            member.channel.send({"do": str(phase), "change": change.number, "name": change.name})
        self._go_on(change, now)

    def _note(self, change: Change, member: Member, error: Mapping[str, Any]) -> None:
        """The origin's error is the one that is told: it knows the model as its caller does."""
        if change.phase is Phase.PREPARE:
            if change.error is None or member is change.origin:
                change.error = error
        elif change.phase is Phase.COMMIT:
            self.broken(member, f"it could not serve model {change.name!r}: {error['message']}")
        elif member is change.origin:
            change.error = error

    def _go_on(self, change: Change, now: float) -> None:
        if change.waiting:
            return
        if change.phase is Phase.PREPARE:
            self._order(change, Phase.COMMIT if change.error is None else Phase.ABANDON, now)
            return
        if self._running.pop(change.number, None) is not None:
            _answer(change.origin, change.question, change.error)
            if len(change.marks) > 1 and change.phase is Phase.COMMIT:
                log.warning("model %s: its files were changed while workers loaded them: all load them again", change.name)
                self.ask(change.origin, 0, "load", change.name, now)


def being_changed(name: str) -> Busy:
    return Busy("being_changed", f"model {name[:128]!r} is being loaded or unloaded: try again", retry_after_s=1)


def _late(name: str) -> ForetellError:
    return Late("deadline_passed", f"model {name[:128]!r} was not loaded in all workers within timeouts.load_s")


def _answer(origin: Member, question: int, error: Error) -> None:
    origin.channel.send({"do": "answer", "question": question, "error": error})
