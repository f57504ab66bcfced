"""A server in simulated time, held to the contract of a network: loads of minutes take milliseconds, and are exact."""

import heapq
from collections.abc import Callable, Sequence

from foretell.bench.network import Link
from foretell.testing import FakeClock


class SimulatedLink:
    def __init__(self, network: "SimulatedNetwork") -> None:
        self.network = network
        self.due = 0.0
        self.asked = 0.0
        self.busy = False
        self.spent = False
        self.outcome = ""
        self.closed = False

    def ask(self, number: int) -> None:
        self.busy = True
        self.network.take(self)

    def hear(self) -> str:
        outcome, self.outcome = self.outcome, ""
        return outcome

    def close(self) -> None:
        self.closed = True


class SimulatedNetwork:
    """Requests are answered one after another, each in ``service_s`` of the time it is begun; never before ``stalls`` end."""

    def __init__(
        self, clock: FakeClock, service_s: Callable[[float], float], stall: tuple[float, float] = (0.0, 0.0), most: int = 10**9
    ) -> None:
        self.fake = clock
        self.clock: Callable[[], float] = clock
        self.service_s = service_s
        self.began = clock.now
        self.stall = stall
        self.most = most
        self.free_at = clock.now
        self.waiting: list[tuple[float, int, SimulatedLink, str]] = []
        self.count = 0
        self.in_flight = 0
        self.links: list[SimulatedLink] = []

    def open(self) -> Link:
        self.links.append(SimulatedLink(self))
        return self.links[-1]

    def take(self, link: SimulatedLink) -> None:
        self.count += 1
        if self.in_flight >= self.most:
            heapq.heappush(self.waiting, (self.fake.now + 1e-4, self.count, link, "429"))
            return
        self.in_flight += 1
        starts = max(self.fake.now, self.free_at)
        if self.stall[0] <= starts - self.began < self.stall[1]:
            starts = self.began + self.stall[1]
        self.free_at = starts + self.service_s(starts - self.began)
        heapq.heappush(self.waiting, (self.free_at, self.count, link, "200"))

    def wait(self, timeout_s: float) -> Sequence[Link]:
        until = self.fake.now + max(timeout_s, 1e-7)  # else a rounding error would never pass
        if self.waiting and self.waiting[0][0] <= until:
            at, _, link, outcome = heapq.heappop(self.waiting)
            self.fake.now = max(self.fake.now, at)
            self.in_flight -= outcome == "200"
            if link.closed:
                return []
            link.outcome = outcome
            return [link]
        self.fake.now = until
        return []

    def close(self) -> None:
        for link in self.links:
            link.close()
