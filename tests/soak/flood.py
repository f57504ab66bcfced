"""Many impatient clients of one model, in a process of their own.

``python -m tests.soak.flood PORT CLIENTS SECONDS TIMEOUT_MS``. Each asks, and asks again: at once after an answer, and a moment
after a refusal, whatever ``Retry-After`` says. The last line is a JSON object: seconds, attempts that were answered by status,
and the 99th percentile of the seconds until a refusal.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter

from tests.serving import infer

PAUSE_S = 0.1  # after a refusal, on average
SETTLED_S = 0.5  # until all have connected


class Client(asyncio.Protocol):
    """One connection, one request at a time. It ends with the answer that comes after ``ends`` (monotonic seconds)."""

    def __init__(self, request: bytes, ends: float, answered: Counter[int], refusals_s: list[float]) -> None:
        self.request = request
        self.ends = ends
        self.settled = time.monotonic() + SETTLED_S
        self.answered = answered
        self.refusals_s = refusals_s
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.data = b""
        self.asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self.loop.call_later(random.uniform(0, PAUSE_S), self.ask)

    def ask(self) -> None:
        if time.monotonic() > self.ends:
            self.transport.close()
            return
        self.asked = time.monotonic()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return
        status = int(head[9:12])
        self.data = b""
        self.answered[status] += 1
        if status == 200:
            self.ask()
            return
        if status == 429 and self.asked > self.settled:
            self.refusals_s.append(time.monotonic() - self.asked)
        self.loop.call_later(random.uniform(0.5, 1.5) * PAUSE_S, self.ask)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def flood(port: int, clients: int, seconds: float, timeout_ms: int) -> dict[str, object]:
    """Ask until the time is up, and then until every request has its answer."""
    request = infer("paced", "x", [1.0, 2.0], shape=[1, 2], parameters={"timeout": timeout_ms * 1000})
    answered: Counter[int] = Counter()
    refusals_s: list[float] = [0.0]
    loop, start = asyncio.get_running_loop(), time.monotonic()

    def connect() -> Client:
        return Client(request, start + seconds, answered, refusals_s)

    made = [(await loop.create_connection(connect, "127.0.0.1", port))[1] for _ in range(clients)]
    await asyncio.gather(*(client.done for client in made))
    refusals_s.sort()
    slow = refusals_s[int(len(refusals_s) * 0.99)]
    return {"seconds": time.monotonic() - start, "answered": dict(answered), "refusal_p99_s": slow}


if __name__ == "__main__":
    port, clients, seconds, timeout_ms = sys.argv[1:]
    print(json.dumps(asyncio.run(flood(int(port), int(clients), float(seconds), int(timeout_ms)))))
