"""For tests of what users build on foretell, and of foretell itself: fakes that keep the contracts, and no network.

with InProcess(pipeline) as client:
    assert client.predict({"x": [1.0, 2.0]})["predictions"] == [{"y": [3.0, 5.0]}]
"""

import asyncio
import json
import selectors
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from foretell.assemble import Service
from foretell.engine.batcher import Outcome
from foretell.engine.engine import Engine
from foretell.passage import Passage
from foretell.pipeline import Pipeline
from foretell.settings import Settings
from foretell.tensors import Arrays, Signature, TensorSpec

T = TypeVar("T")
LONGEST_RUN_S = 100_000
SMALL = Signature((TensorSpec.parse("x", "FP32[2]"),), (TensorSpec.parse("y", "FP32[2]"),))


def double_plus_one(inputs: Arrays) -> Arrays:
    """``y = 2 x + 1``, exactly."""
    return {"y": np.multiply(inputs["x"], 2) + inputs["x"].dtype.type(1)}


class FakeBackend:
    """A backend without a runtime: ``y = 2 x + 1`` on rows of two floats, or any function with its signature.

    ``batches`` records the number of rows of every call.
    """

    def __init__(self, compute: Callable[[Arrays], Arrays] = double_plus_one, signature: Signature = SMALL) -> None:
        self.compute = compute
        self.signature = signature
        self.batches: list[int] = []
        self.closed = False

    def forward(self, inputs: Arrays) -> Arrays:
        self.batches.append(self.signature.count_rows(inputs))
        return self.compute(inputs)

    def close(self) -> None:
        self.closed = True


class RecordingObserver:
    """An observer that keeps every passage it is shown."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []

    def __call__(self, passage: Passage) -> None:
        self.passages.append(passage)

    @property
    def codes(self) -> list[str]:
        """How each passage ended: ``"ok"`` or its error's code."""
        return [passage.error.code if passage.error else "ok" for passage in self.passages]


class HeldPlace:
    """A place where forwards wait until ``release``: for tests of what happens while a model is busy."""

    name = "held"
    is_apart = True

    def __init__(self) -> None:
        self.held: list[tuple[Callable[[], list[Outcome]], Callable[[list[Outcome]], None]]] = []

    def run(self, work: Callable[[], list[Outcome]], done: Callable[[list[Outcome]], None]) -> None:
        self.held.append((work, done))

    def release(self) -> None:
        """Run and hand back the oldest forward that is held."""
        work, done = self.held.pop(0)
        done(work())

    def close(self) -> None:
        self.held.clear()


class FakeClock:
    """Time that passes at once: when every task of ``run`` waits, the clock jumps to the next timer.

    Work in threads is not waited for, so place models inline or in a ``HeldPlace``.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on a loop that lives by this clock. Raises RuntimeError when it waits for what never comes."""
        with asyncio.Runner(loop_factory=lambda: _ClockedLoop(self)) as runner:
            return runner.run(main)


class _ClockedSelector(selectors.DefaultSelector):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.ends = clock.now + LONGEST_RUN_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout is None:
            raise RuntimeError("every task waits, and no timer is set: this would never end")
        if not events and timeout:
            self.clock.now += timeout
        if self.clock.now > self.ends:
            raise RuntimeError(f"{LONGEST_RUN_S} seconds of fake time passed: something waits for what never comes")
        return events


class _ClockedLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__(_ClockedSelector(clock))
        self._clock = clock

    def time(self) -> float:
        return self._clock.now


@dataclass(frozen=True)
class Response:
    """An answer of ``InProcess``."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class InProcess:
    """The whole HTTP application over a pipeline, without a socket or a process: ``with InProcess(pipeline) as client``.

    The pipeline is the caller's: it stays open for the next test.
    """

    pipeline: Pipeline
    name: str = "m"
    settings: Settings = field(default_factory=Settings)

    def __enter__(self) -> "InProcess":
        self._runner = asyncio.Runner()
        self._runner.run(self._start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._runner.run(self._halt())
        self._runner.close()

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Response:
        """One request as a client would send it; ``path`` may hold a query."""
        return self._runner.run(self._request(method, path, body, headers or {}))

    def predict(self, rows: object) -> Any:
        """The JSON answer of the row door to a row (an object) or a list of rows."""
        body = json.dumps(rows).encode()
        return self.request("POST", f"/predict/{self.name}", body, {"content-type": "application/json"}).json()

    async def _halt(self) -> None:
        for engine in self.service.catalog:
            await engine.halt()

    async def _start(self) -> None:
        self.service = Service(self.settings)
        engine = Engine(self.name, "1", self.pipeline, self.settings.engine, self.service.loader.observers)
        await engine.start()
        self.service.catalog.add(engine)
        self.service.catalog.complete = True

    async def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        raw_path, _, query = path.partition("?")
        given = {"host": "localhost", "content-length": str(len(body))} | {key.lower(): value for key, value in headers.items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(key.encode("latin-1"), value.encode("latin-1")) for key, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        sent: list[MutableMapping[str, Any]] = []
        incoming = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> MutableMapping[str, Any]:
            return incoming.pop() if incoming else await asyncio.get_running_loop().create_future()

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self.service.http(scope, receive, send)
        start = sent[0]
        shown = {key.decode("latin-1"): value.decode("latin-1") for key, value in start["headers"]}
        return Response(start["status"], shown, b"".join(message.get("body", b"") for message in sent[1:]))
