"""Every store does, step by step, what the model of the contract does, whatever is asked of it in whatever order."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from foretell.errors import Invalid
from foretell.jobs.job import DAY_S, ENDED, PRIORITIES, Failure, Job, Outcome, State, new_id
from foretell.jobs.store import open_store
from foretell.testing import FakeClock
from tests.jobs.model import Model
from tests.soak import rounds

WORKERS = st.sampled_from(["anna", "bert", "cora"])
KINDS = st.sets(st.sampled_from(["request", "files"]))
ERRORS = st.none() | st.builds(Failure, st.just("model_failed"), st.text(st.characters(exclude_characters="\0", codec="utf-8")))
LEASE_S = 30.0


class Comparison(RuleBasedStateMachine):
    """A store and the model, asked the same."""

    ids: Bundle[str] = Bundle("ids")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.clock = FakeClock(1_800_000_000.0)
        self.store = open_store(url, self.clock)
        self.model = Model(self.clock)

    def teardown(self) -> None:
        self.store.close()

    @rule(target=ids, data=st.data(), count=st.integers(1, 3))
    def submit(self, data: st.DataObject, count: int) -> Any:
        jobs = [data.draw(self.new_jobs()) for _ in range(count)]
        assert _told(lambda: self.store.submit(jobs)) == _told(lambda: self.model.submit(jobs))
        return multiple(*(job.id for job in jobs))

    def new_jobs(self) -> st.SearchStrategy[Job]:
        now = self.clock()
        return st.builds(
            lambda **drawn: Job(id=new_id(), created_at=now, **drawn),
            kind=st.sampled_from(["request", "files"]),
            spec=st.binary(max_size=8),
            due_at=st.sampled_from([now, now, now - 1.5, now + LEASE_S]),
            priority=st.sampled_from(PRIORITIES),
            owner=st.sampled_from(["", "eva"]),
            key=st.none() | st.sampled_from(["k", "k" * 9000]),
            fingerprint=st.sampled_from(["1", "1", "2"]),
            key_until=st.sampled_from([0.0, now + 2 * DAY_S, float("inf")]),
            ttl_s=st.sampled_from([0.0, DAY_S]),
            most_attempts=st.integers(1, 2),
        )

    @rule(worker=WORKERS, kinds=KINDS, most=st.integers(0, 4))
    def claim(self, worker: str, kinds: set[str], most: int) -> None:
        assert self.store.claim(worker, kinds, most, LEASE_S) == self.model.claim(worker, kinds, most, LEASE_S)

    @rule(ids=st.lists(ids, max_size=3), worker=WORKERS)
    def renew(self, ids: list[str], worker: str) -> None:
        assert self.store.renew(ids, worker, LEASE_S) == self.model.renew(ids, worker, LEASE_S)

    @rule(ids=st.lists(ids, max_size=3), worker=WORKERS, state=st.sampled_from(sorted(ENDED)), error=ERRORS)
    def finish(self, ids: list[str], worker: str, state: State, error: Failure | None) -> None:
        outcomes = [Outcome(id, worker, state, b"r" if state is State.DONE else None, error) for id in ids]
        assert self.store.finish(outcomes) == self.model.finish(outcomes)

    @rule(id=ids, worker=WORKERS, after_s=st.sampled_from([0.0, LEASE_S]), error=ERRORS)
    def put_back(self, id: str, worker: str, after_s: float, error: Failure | None) -> None:
        due_at = self.clock() + after_s
        assert self.store.put_back(id, worker, due_at, error) == self.model.put_back(id, worker, due_at, error)

    @rule(id=ids)
    def cancel(self, id: str) -> None:
        assert self.store.cancel(id) == self.model.cancel(id)

    @rule(seconds=st.sampled_from([0.001, LEASE_S / 2, LEASE_S, DAY_S]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def delete_expired(self) -> None:
        assert self.store.delete_expired() == self.model.delete_expired()

    @rule(state=st.none() | st.sampled_from(sorted(set(State) - {State.EXPIRED})))
    def list(self, state: State | None) -> None:
        assert list(self.store.list(state)) == self.model.list(state)

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = open_store(self.url, self.clock)

    @invariant()
    def agree(self) -> None:
        for id in self.model.jobs:
            assert self.store.get(id) == self.model.get(id)
        counts = {state: len(self.model.list(state)) for state in State if state is not State.EXPIRED}
        assert self.store.counts() == counts


def _told(call: Callable[[], object]) -> object:
    """What a call gives, or the code of its refusal."""
    try:
        return call()
    except Invalid as refusal:
        return refusal.code


def test_a_store_does_what_the_contract_says_whatever_is_asked_of_it(fresh: Callable[[], str]) -> None:
    class Fresh(Comparison):
        def __init__(self) -> None:
            super().__init__(fresh())

    few = settings(max_examples=rounds(10, 300), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Fresh, settings=few)
