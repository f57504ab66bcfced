"""Models are changed in all workers, or in none."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from foretell.workers.changes import MARGIN_S, Changes, Member, State
from foretell.workers.channel import Channel

FAILURE = {"code": "broken_model", "message": "no", "details": {}}


def state(mark: int, *lacking: str) -> State:
    """What a worker has whose model was made from files of this mark."""
    return State(served={"m": ["1"]}, lacking=[*lacking], made={"m": mark})


class Worker:
    """A worker as the supervisor sees it, and the other end of its channel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.channel, self.end = Channel(ours), Channel(theirs)

    def heard(self) -> list[Any]:
        """What it was told since it was last asked: orders as verb and number, answers as question and code."""
        return [_short(said) for said in self.end.receive()]


def _short(said: Any) -> tuple[Any, Any]:
    if said["do"] != "answer":
        return said["do"], said["change"]
    return said["question"], said["error"] and said["error"]["code"]


class Crew:
    """Three workers, and the changes that they go through."""

    def __init__(self) -> None:
        self.workers = [Worker() for _ in range(3)]
        self.starting = False
        self.broken: list[tuple[Member, str]] = []
        self.changes = Changes(self._members, lambda member, why: self.broken.append((member, why)), 10.0)

    def _members(self) -> list[Worker] | None:
        return None if self.starting else self.workers

    def did(self, *workers: Worker, number: int = 1, error: Any = None) -> None:
        for worker in workers:
            self.changes.did(worker, number, error, state(1), 0.0)


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew()
    yield crew
    for worker in crew.workers:
        worker.channel.close()
        worker.end.close()


def test_a_load_is_committed_when_all_have_prepared_it(crew: Crew) -> None:
    one, two, three = crew.workers
    crew.changes.ask(one, 7, "load", "m", 0.0)
    assert [worker.heard() for worker in crew.workers] == [[("prepare", 1)]] * 3
    crew.did(one, two)
    assert [worker.heard() for worker in crew.workers] == [[]] * 3
    crew.did(three)
    assert [worker.heard() for worker in crew.workers] == [[("commit", 1)]] * 3
    crew.did(*crew.workers)
    assert [worker.heard() for worker in crew.workers] == [[(7, None)], [], []]
    assert crew.changes.known == state(1)


def test_when_one_cannot_prepare_all_abandon_and_the_caller_is_told_why(crew: Crew) -> None:
    one, two, three = crew.workers
    crew.changes.ask(one, 7, "load", "m", 0.0)
    crew.did(one, three)
    crew.did(two, error=FAILURE)
    assert [worker.heard() for worker in crew.workers] == [[("prepare", 1), ("abandon", 1)]] * 3
    crew.did(*crew.workers)
    assert one.heard() == [(7, "broken_model")]
    assert not crew.broken


def test_a_worker_that_dies_meanwhile_is_not_waited_for(crew: Crew) -> None:
    one, two, three = crew.workers
    crew.changes.ask(one, 7, "load", "m", 0.0)
    crew.did(one, three)
    crew.changes.left(two, 0.0)
    assert one.heard() == [("prepare", 1), ("commit", 1)]
    crew.did(one)
    crew.changes.left(three, 0.0)
    assert one.heard() == [(7, None)]


def test_a_preparation_that_takes_too_long_is_abandoned(crew: Crew) -> None:
    one, *_ = crew.workers
    crew.changes.ask(one, 7, "load", "m", 0.0)
    crew.did(one)
    crew.changes.tick(10.0 + MARGIN_S + 0.1)
    assert one.heard() == [("prepare", 1), ("abandon", 1)]
    crew.did(*crew.workers)
    assert one.heard() == [(7, "deadline_passed")]


def test_who_cannot_commit_is_replaced_and_the_others_go_on(crew: Crew) -> None:
    one, two, three = crew.workers
    crew.changes.ask(one, 7, "load", "m", 0.0)
    crew.did(*crew.workers)
    crew.did(one)
    crew.did(two, error=FAILURE)
    assert [member for member, _ in crew.broken] == [two]
    crew.changes.tick(2 * (10.0 + MARGIN_S))
    assert [member for member, _ in crew.broken] == [two, three]
    assert one.heard()[-1] == (7, None)


def test_one_change_of_a_model_runs_at_a_time(crew: Crew) -> None:
    one, two, _ = crew.workers
    crew.changes.ask(one, 7, "load", "m", 0.0)
    crew.changes.ask(two, 3, "unload", "m", 0.0)
    assert two.heard() == [("prepare", 1), (3, "being_changed")]
    crew.changes.ask(two, 4, "unload", "other", 0.0)
    assert two.heard() == [("unload", 2)]


def test_a_change_waits_for_a_worker_that_starts(crew: Crew) -> None:
    one, *_ = crew.workers
    crew.starting = True
    crew.changes.ask(one, 7, "load", "m", 0.0)
    assert one.heard() == []
    crew.starting = False
    crew.changes.begin(0.0)
    assert one.heard() == [("prepare", 1)]


def test_a_change_waits_no_longer_than_a_load_may_take(crew: Crew) -> None:
    one, *_ = crew.workers
    crew.starting = True
    crew.changes.ask(one, 7, "load", "m", 0.0)
    crew.changes.tick(10.0 + MARGIN_S + 0.1)
    assert one.heard() == [(7, "being_changed")]
    assert not crew.changes.running


def test_an_unload_fails_as_it_does_for_who_asked(crew: Crew) -> None:
    one, two, three = crew.workers
    crew.changes.ask(one, 7, "unload", "m", 0.0)
    crew.did(two, three, error={"code": "unknown_model", "message": "no", "details": {}})
    crew.did(one)
    assert one.heard() == [("unload", 1), (7, None)]
    crew.changes.ask(one, 8, "unload", "m", 0.0)
    crew.did(one, error=FAILURE, number=2)
    crew.did(two, three, number=2)
    assert one.heard() == [("unload", 2), (8, "broken_model")]


def test_a_worker_that_comes_with_the_same_files_changes_nothing(crew: Crew) -> None:
    one, two, _ = crew.workers
    crew.changes.came(one, state(1), 0.0)
    crew.changes.came(two, state(1), 0.0)
    assert [worker.heard() for worker in crew.workers] == [[], [], []]


def test_a_worker_that_comes_with_other_files_has_all_load_them(crew: Crew) -> None:
    one, two, _ = crew.workers
    crew.changes.came(one, state(1), 0.0)
    crew.changes.came(two, state(2), 0.0)
    assert [worker.heard() for worker in crew.workers] == [[("prepare", 1)]] * 3


def test_what_the_last_worker_that_is_left_lacks_nobody_is_to_have(crew: Crew) -> None:
    one, two, _ = crew.workers
    crew.changes.came(one, state(1), 0.0)
    crew.changes.came(two, state(1, "n"), 0.0)
    assert crew.changes.known == state(1, "n")


def test_workers_that_loaded_different_files_load_again(crew: Crew) -> None:
    one, two, three = crew.workers
    crew.changes.ask(one, 7, "load", "m", 0.0)
    crew.did(*crew.workers)
    for worker, mark in ((one, 1), (two, 1), (three, 2)):
        crew.changes.did(worker, 1, None, state(mark), 0.0)
    assert one.heard() == [("prepare", 1), ("commit", 1), (7, None), ("prepare", 2)]
