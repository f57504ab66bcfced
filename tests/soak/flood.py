"""Many impatient clients of one model, and one that asks whether the server is ready, in a process of their own.

``python -m tests.soak.flood PORT CLIENTS SECONDS TIMEOUT_MS``. Each client asks, and asks again: at once after an answer, and a
moment after a refusal, whatever ``Retry-After`` says. The last line is a JSON object: seconds, attempts that were answered by
status, the 99th percentiles of the seconds until a refusal and until a probe's answer, and ``lag_p99_s``: how long after its
time a request was sent, which is this process's own delay and no server's.

It is one poll over plain sockets, as ``foretell bench`` has it: an event loop of objects would be late itself.
"""

import gc
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from heapq import heappop, heappush

from foretell.bench.http1 import HttpLink
from foretell.bench.network import Address, Link, Sockets
from tests.serving import infer

PAUSE_S = 0.1  # after a refusal, on average
SETTLED_S = 0.5  # until all have connected
PROBE_EVERY_S = 0.01
PROBE = b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Flood:
    """The clients, and what they were told."""

    def __init__(self, network: Sockets) -> None:
        self.network = network
        self.clock = network.clock
        self.plan: list[tuple[float, int, Link]] = []  # when each is to ask next; the number keeps links from being compared
        self.planned = 0
        self.in_flight = 0
        self.probe = network.open()
        self.answered: Counter[str] = Counter()
        self.refusals_s: list[float] = []
        self.probes_s: list[float] = []
        self.lags_s: list[float] = []

    def run(self, clients: int, seconds: float) -> None:
        """Ask until the time is up, and then until every request has its answer."""
        start = self.clock()
        self.settled, self.ends = start + SETTLED_S, start + seconds
        self._wait_until(self.probe, start)
        for _ in range(clients):
            self._wait_until(self.network.open(), start + random.uniform(0, PAUSE_S))
        while self.in_flight or self.clock() < self.ends:
            self._ask_those_due()
            pause = min(self.plan[0][0] if self.plan else self.ends, self.ends) - self.clock()
            for link in self.network.wait(max(pause, 0.0)):
                if outcome := link.hear():
                    self._heard(link, outcome, self.clock())

    def _wait_until(self, link: Link, when: float) -> None:
        self.planned += 1
        heappush(self.plan, (when, self.planned, link))

    def _ask_those_due(self) -> None:
        while self.plan and self.plan[0][0] <= (now := self.clock()) < self.ends:
            when, _, link = heappop(self.plan)
            self.lags_s.append(now - when)
            if link is self.probe:  # over a connection of its own, as balancers ask
                link = self.probe = self.network.open()
            self._ask(link, now)

    def _ask(self, link: Link, now: float) -> None:
        link.due = now
        self.in_flight += 1
        link.ask(int(link is self.probe))

    def _heard(self, link: Link, outcome: str, now: float) -> None:
        self.in_flight -= 1
        took_s, counts = now - link.due, link.due > self.settled
        if link is self.probe:
            assert outcome == "200", outcome
            self.probes_s += [took_s] * counts
            link.close()
            self._wait_until(self.probe, max(link.due + PROBE_EVERY_S, now))
            return
        self.answered[outcome] += 1
        if outcome == "200" and now < self.ends:
            self._ask(link, now)
        else:
            self.refusals_s += [took_s] * (counts and outcome == "429")
            self._wait_until(link, now + random.uniform(0.5, 1.5) * PAUSE_S)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile; 0 of nothing."""
    return sorted(values)[int(len(values) * 0.99)] if values else 0.0


def main(port: int, clients: int, seconds: float, timeout_ms: int) -> dict[str, object]:
    """The figures of one flood."""
    request = infer("paced", "x", [1.0, 2.0], shape=[1, 2], parameters={"timeout": timeout_ms * 1000})
    room = bytearray(2**16)
    network = Sockets(Address("127.0.0.1", port), lambda opened, watch: HttpLink([request, PROBE], room, opened, watch))
    flood, start = Flood(network), time.perf_counter()
    gc.disable()
    flood.run(clients, seconds)
    return {
        "seconds": time.perf_counter() - start,
        "answered": dict(flood.answered),
        "refusal_p99_s": p99(flood.refusals_s),
        "probe_p99_s": p99(flood.probes_s),
        "lag_p99_s": p99(flood.lags_s),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))))
