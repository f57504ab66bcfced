"""Servers that candidates are measured on: real ones, one for each number of workers, which load a model in its turn."""

import contextlib
import http.client
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import orjson

from foretell.backends import recognize
from foretell.bench.bodies import network
from foretell.bench.figures import Figures, summarize
from foretell.bench.load import Load
from foretell.bench.network import Address, Network
from foretell.bench.target import check_first, find_target, served
from foretell.errors import ForetellError, Setup
from foretell.optimize.tune.bundle import Bundle, write_toml
from foretell.optimize.tune.climb import STEPS, Climb, climb
from foretell.optimize.tune.objective import Objective
from foretell.optimize.tune.search import Look
from foretell.optimize.tune.space import Candidate
from foretell.repository.pipeline_file import FILE_NAME
from foretell.tensors import Arrays

FIRST_CLIENTS = 4
WARM_UP = 0.2
LOAD_WITHIN_S = 300.0


@dataclass(frozen=True)
class Server:
    """One that runs, and how its administrator asks it to load a model."""

    http: Address
    spoken: Address
    key: str

    def change(self, model: str, what: str) -> None:
        """``load`` or ``unload``. Raises Setup ``cannot_tune`` with what the server says."""
        line = http.client.HTTPConnection(self.http.host, self.http.port, timeout=LOAD_WITHIN_S)
        try:
            line.request("POST", f"/v2/repository/models/{model}/{what}", headers={"authorization": f"Bearer {self.key}"})
            answer = line.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Setup("cannot_tune", f"the server went away while it was to {what} {model}: {error!r}") from error
        finally:
            line.close()
        if answer.status != http.client.OK:
            raise Setup("cannot_tune", f"{model} is not served: {_told(text)}")


@dataclass
class Stand:
    """``measure`` for the search. ``bundles`` by the name of the variant, of which the ``threaded`` have threads to set.

    ``rows`` are single requests; ``joules`` is a meter's reading; ``folder`` is its own.

    Used in a ``with`` block: at its end every server is stopped.
    """

    folder: Path
    bundles: dict[str, Bundle]
    rows: Sequence[Arrays]
    objective: Objective
    protocol: str = "json"
    joules: Callable[[], float | None] = lambda: None
    threaded: frozenset[str] = frozenset()
    _servers: dict[tuple[int, int], Server] = field(default_factory=dict)
    _connects: dict[str, Callable[[], Network]] = field(default_factory=dict)
    _clients: dict[Candidate, int] = field(default_factory=dict)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> "Stand":
        (self.folder / "models").mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def measure(self, candidate: Candidate, seconds: float) -> Look:
        """Load the candidate, climb, unload. One that is not served is told as a look with a problem."""
        try:
            with self.loaded(candidate, "model"):
                return self.look(candidate, "model", seconds)
        except ForetellError as error:
            return Look(candidate, seconds, met=False, rate=0.0, problem=error.message)

    @contextlib.contextmanager
    def loaded(self, candidate: Candidate, name: str) -> Iterator[None]:
        """The candidate is served under ``name`` for the block. Raises Setup ``cannot_tune``."""
        self._place(candidate, name)
        server = self._server(candidate)
        server.change(name, "load")
        try:
            self._connects[name] = self._connect(server, name)
            yield
        finally:
            with contextlib.suppress(ForetellError):
                server.change(name, "unload")

    def _place(self, candidate: Candidate, name: str) -> None:
        """Put the candidate's folder where the servers find it, under ``name``."""
        bundle = self.bundles[candidate.variant]
        folder = self.folder / "models" / name
        marker = self.folder / f"{name}.variant"
        if not marker.exists() or marker.read_text() != candidate.variant:
            _replace(folder, bundle.folder)
            marker.write_text(candidate.variant)
        table = bundle.settled(candidate, has_threads=candidate.variant in self.threaded)
        (folder / FILE_NAME).write_text(write_toml(table), encoding="utf-8")

    def look(self, candidate: Candidate, name: str, seconds: float, steps: int = STEPS) -> Look:
        """A look at a candidate that is loaded."""
        connect = self._connects[name]
        before = self.joules()
        start = self._clients.get(candidate) or next(reversed(self._clients.values()), FIRST_CLIENTS)
        climbed = climb(lambda clients, load_s: run_load(connect(), clients, load_s), self.objective, seconds, start, steps)
        after = self.joules()
        self._clients[candidate] = climbed.shown
        joules = None if before is None or after is None else (after - before) / max(climbed.answered, 1)
        return _as_look(candidate, seconds, climbed, joules)

    def _connect(self, server: Server, name: str) -> Callable[[], Network]:
        """What opens connections that send the rows, tried once. Raises Unavailable or Setup."""
        with find_target(f"http://{server.spoken}", self.protocol, name) as target:
            connect = network(server.spoken, self.protocol, target.model, self.rows)
        check_first(connect())
        return connect

    def _server(self, candidate: Candidate) -> Server:
        """The server for so many workers, started when it is first needed."""
        key = (candidate.workers, candidate.threads if self._shares_threads(candidate) else 0)
        if key not in self._servers:
            self._servers[key] = self._open.enter_context(self._started(candidate.workers))
        return self._servers[key]

    def _shares_threads(self, candidate: Candidate) -> bool:
        """TensorFlow has one number of threads for a whole process."""
        bundle = self.bundles[candidate.variant]
        return "keras" in (bundle.table["model"].get("backend"), recognize(bundle.file))

    @contextlib.contextmanager
    def _started(self, workers: int) -> Iterator[Server]:
        key = secrets.token_urlsafe(24)
        config = self.folder / f"server-{len(self._servers)}.toml"
        config.touch(mode=0o600)
        config.write_text(write_toml({"admin": {"key": key}}), encoding="utf-8")
        flags = ("--config", str(config), "--repository-load", "none", "--workers", str(workers), "--log-level", "warning")
        with served(str(self.folder / "models"), self.protocol, *flags) as (http_address, spoken):
            yield Server(http_address, spoken, key)


def run_load(opened: Network, clients: int, seconds: float) -> Figures:
    """Raises KeyboardInterrupt, which a load alone takes for its end."""
    figures = summarize(Load(opened).run_closed(clients, seconds), WARM_UP * seconds)
    if figures.interrupted:
        raise KeyboardInterrupt
    return figures


def _as_look(candidate: Candidate, seconds: float, climbed: Climb, joules: float | None) -> Look:
    figures = climbed.tried[climbed.shown]
    problem = "" if figures.good else "no request got a good answer"
    return Look(
        candidate,
        seconds,
        met=climbed.best is not None,
        rate=figures.rate,
        clients=climbed.shown,
        latency_s=dict(figures.latency_s) if figures.good else {},
        joules=joules,
        problem=problem,
    )


def _replace(folder: Path, source: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)


def _told(text: bytes) -> str:
    try:
        return str(orjson.loads(text)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return text[:200].decode("utf-8", "replace")
