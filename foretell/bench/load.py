"""Sends a load and notes what became of every request: closed (each client waits for its answer) or open (at set times).

In an open load the latency of a request counts from when it was *meant* to be sent. A server that stalls is therefore seen by
all requests that would have come meanwhile, not by one: there is no coordinated omission.
"""

import gc
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from foretell.bench.network import GARBAGE, GOOD, HUNG_UP, MOST_LINKS, NEVER_SENT, NO_ANSWER, Link, Network
from foretell.errors import Unavailable

FIRST_LINKS = 32
LONGEST_ANSWER_S = 30.0
LOOK_AROUND_S = 0.1
MOST_LOST_IN_A_ROW = 100
LOST = frozenset({HUNG_UP, GARBAGE, NO_ANSWER})


@dataclass
class Samples:
    """What became of the requests of one load. Times are in seconds; ``due`` counts from the start of the load.

    ``took`` counts from ``due``; ``lag`` is how long after ``due`` the generator got round to sending, which is its own
    fault. ``failed`` holds due, took and outcome of every request without a good answer. ``cpu_s`` is the generator's own, up
    to the end of the time and not of the last answer.
    """

    due: "array[float]" = field(default_factory=lambda: array("d"))
    took: "array[float]" = field(default_factory=lambda: array("d"))
    lag: "array[float]" = field(default_factory=lambda: array("d"))
    failed: list[tuple[float, float, str]] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0
    interrupted: bool = False


class Load:
    """One load on one network. ``run_closed`` or ``run_open`` is called once; Ctrl-C ends it early and keeps what there is."""

    def __init__(self, network: Network, longest_s: float = LONGEST_ANSWER_S) -> None:
        self.network = network
        self.clock = network.clock
        self.longest_s = longest_s
        self.samples = Samples()
        self.links: set[Link] = set()
        self.began = 0.0
        self.ends = float("inf")
        self.cpu_began_s = 0.0
        self.lost_in_a_row = 0
        self.looked = 0.0

    def run_closed(self, clients: int, seconds: float) -> Samples:
        """``clients`` connections, each with one request at a time, the next as soon as the last was answered."""
        return self._run(lambda: self._closed(clients, seconds), seconds)

    def run_open(self, times: Sequence[float], seconds: float, most_links: int = MOST_LINKS) -> Samples:
        """A request at each of ``times``, on whichever connection is free; a new one when none is, up to ``most_links``."""
        return self._run(lambda: self._open(times, seconds, most_links), seconds)

    def _run(self, work: Callable[[], None], seconds: float) -> Samples:
        collecting = gc.isenabled()
        gc.disable()
        self.cpu_began_s = time.process_time()
        self.began = self.looked = self.clock()
        self.ends = self.began + seconds
        self.samples.seconds = seconds
        try:
            work()
        except KeyboardInterrupt:
            self.samples.interrupted = True
            self.samples.seconds = min(self.clock() - self.began, seconds)
        finally:
            self._read_cpu()
            self.network.close()
            if collecting:
                gc.enable()
        return self.samples

    def _closed(self, clients: int, seconds: float) -> None:
        clock, wait, samples = self.clock, self.network.wait, self.samples
        note_due, note_took = samples.due.append, samples.took.append
        began, ends = self.began, self.began + seconds
        resting: deque[float] = deque()
        number = clients
        for each in range(clients):
            self._ask(self._link(), each, clock())
        while self.links or resting:
            for link in wait(LOOK_AROUND_S):
                outcome = link.hear()
                if not outcome:
                    continue
                now = clock()
                if outcome in GOOD and not link.spent and now < ends:  # the hot way
                    note_due(link.due - began)
                    note_took(now - link.due)
                    link.due = link.asked = now
                    link.ask(number)
                    number += 1
                    self.lost_in_a_row = 0
                    continue
                if not self._note(link, outcome, now) and now < ends:
                    resting.append(now + LOOK_AROUND_S if outcome in LOST else now)
                elif now < ends:
                    self._ask(link, number, now)
                    number += 1
                else:
                    self._drop(link)
            now = clock()
            resting.extend([now] * self._look_around(now))
            while resting and (resting[0] <= now or now >= ends):
                resting.popleft()
                if now < ends:
                    self._ask(self._link(), number, now)
                    number += 1

    def _open(self, times: Sequence[float], seconds: float, most_links: int) -> None:
        clock, wait, began = self.clock, self.network.wait, self.began
        note_lag = self.samples.lag.append
        free: deque[Link] = deque(self._link() for _ in range(min(FIRST_LINKS, most_links)))
        waiting: deque[float] = deque()
        sent, count = 0, len(times)
        while sent < count or waiting or any(link.busy for link in self.links):
            now = clock() - began
            while sent < count and times[sent] <= now:
                due = times[sent] + began
                link = self._free(free, most_links)
                note_lag(clock() - due)
                if link is None:
                    waiting.append(due)
                else:
                    self._ask(link, sent, due)
                sent += 1
            pause = min(times[sent] - (clock() - began), LOOK_AROUND_S) if sent < count else LOOK_AROUND_S
            for link in wait(max(pause, 0.0)):
                outcome = link.hear()
                if not outcome:
                    continue
                if not link.busy:
                    self._drop(link)  # the server closed what was idle
                elif self._note(link, outcome, clock()):
                    free.append(link)
            now = clock()
            self._look_around(now)
            while waiting and now - waiting[0] > self.longest_s:
                self.samples.failed.append((waiting[0] - began, now - waiting.popleft(), NEVER_SENT))
            while waiting and (late := self._free(free, most_links)) is not None:
                self._ask(late, sent, waiting.popleft())

    def _free(self, free: "deque[Link]", most_links: int) -> Link | None:
        """The link that was idle longest, so that all of them are used; or a new one, while there may be one more."""
        while free:
            link = free.popleft()
            if link in self.links:
                return link
        return self._link() if len(self.links) < most_links else None

    def _link(self) -> Link:
        link = self.network.open()
        self.links.add(link)
        return link

    def _ask(self, link: Link, number: int, due: float) -> None:
        link.due, link.asked = due, self.clock()
        link.ask(number)

    def _drop(self, link: Link) -> None:
        self.links.discard(link)
        link.close()

    def _note(self, link: Link, outcome: str, now: float) -> bool:
        """Note how a request ended; whether its link can carry another. Raises Unavailable when nothing is answered."""
        link.busy = False
        if outcome in GOOD:
            self.samples.due.append(link.due - self.began)
            self.samples.took.append(now - link.due)
        else:
            self.samples.failed.append((link.due - self.began, now - link.due, outcome))
        self.lost_in_a_row = self.lost_in_a_row + 1 if outcome in LOST else 0
        if outcome in LOST or link.spent:
            self._drop(link)
        if self.lost_in_a_row >= MOST_LOST_IN_A_ROW and not (outcome == NO_ANSWER and self.samples.took):
            raise Unavailable("unreachable", self._came_to_nothing(outcome))
        return link in self.links

    def _came_to_nothing(self, outcome: str) -> str:
        text = f"{MOST_LOST_IN_A_ROW} requests in a row came to nothing, the last one ended so: {outcome}"
        if not self.samples.took:
            return text
        before = f"{len(self.samples.took):,} requests were answered well, then {text}"
        return f"{before}; the server ended, or the load is more than it takes: then give a lower --rate or fewer --clients"

    def _read_cpu(self) -> None:
        if not self.samples.cpu_s:
            self.samples.cpu_s = time.process_time() - self.cpu_began_s

    def _look_around(self, now: float) -> int:
        """Give up what waits for too long; how many were given up."""
        if now >= self.ends:
            self._read_cpu()
        if now - self.looked < LOOK_AROUND_S:
            return 0
        self.looked = now
        late = [link for link in self.links if link.busy and now - link.asked > self.longest_s]
        for link in late:
            self._note(link, NO_ANSWER, now)
        return len(late)
