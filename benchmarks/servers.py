"""The servers that are measured: how each is started, what it speaks, and what it uses. Linux only: it reads /proc."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
PEER_VENVS = HERE.parent / ".venv-peers"
MARK = "BENCHMARK_OF_SERVERS"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
ALL_DOORS = ("json", "binary", "grpc")
READY_WITHIN_S = 90.0
FORETELL = (sys.executable, "-m", "foretell", "serve", "{model}", "--name", "m", "--http-port", "{port}")


@dataclass(frozen=True)
class Server:
    """One to be measured. In ``command``, {model}, {port}, {grpc} and {workers} are filled in.

    ``venv`` is made from ``needs`` by ``make bench-peers``; ``python`` makes it where the one in use will not do.
    """

    label: str
    command: tuple[str, ...]
    doors: tuple[str, ...] = ALL_DOORS
    path: str = "/v2/models/m/infer"
    most_workers: int = 2
    models: tuple[str, ...] | None = None
    needs: tuple[str, ...] = ()
    python: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    when_grpc: tuple[str, ...] = ()
    when_workers: tuple[str, ...] = ()

    @property
    def is_peer(self) -> bool:
        return bool(self.needs)

    def fits(self, model: str, door: str, workers: int) -> bool:
        return door in self.doors and workers <= self.most_workers and (self.models is None or model in self.models)


def foretell(label: str, environ: Mapping[str, str] | None = None) -> Server:
    """Foretell, as it is or from another checkout."""
    more = ("--grpc-port", "{grpc}")
    return Server(label, FORETELL, environ=environ or {}, when_grpc=more, when_workers=("--workers", "{workers}"))


def peer(label: str, needs: str, *command: str, doors: tuple[str, ...] = ("json",), **more: object) -> Server:
    """A peer in its own environment; ``command`` starts with the name of a program of it."""
    return Server(label, command, doors, needs=(*needs.split(), "onnxruntime", "numpy"), **more)  # type: ignore[arg-type]


OURS = (
    foretell("foretell"),
    Server("limit", (sys.executable, str(HERE / "limit.py"), "{model}", "{port}"), ("json",), most_workers=1),
    Server("bare ASGI echo", (sys.executable, str(HERE / "echo.py"), "{port}"), ("binary",), most_workers=1, models=("image",)),
    Server("bare grpc.aio", (sys.executable, str(HERE / "bare_rpc.py"), "{model}", "{grpc}"), ("grpc",), most_workers=1),
)
BESIDE = (Server("foretell without the fast lane", (*FORETELL, "--no-http-fast-lane"), ("json", "binary"), most_workers=1),)
"""Measured when they are named."""
PEER_SERVERS = (
    peer("mosec", "mosec msgspec", "python", "mosec_app.py", "--port", "{port}", path="/inference"),
    peer("Triton (PyTriton)", "nvidia-pytriton", "python", "triton_app.py", doors=ALL_DOORS, python="/usr/bin/python3"),
    peer("KServe", "kserve", "python", "kserve_app.py", doors=ALL_DOORS),
    peer("MLServer", "mlserver uvloop<0.22", "python", "mlserver_app.py", doors=("json", "grpc")),
    peer("LitServe", "litserve", "python", "litserve_app.py"),
    peer("BentoML", "bentoml", "bentoml", "serve", "bentoml_app:Peer", "--port", "{port}"),
    peer("Ray Serve", "ray[serve]", "python", "ray_app.py"),
)


def venv_of(server: Server) -> Path:
    return PEER_VENVS / server.needs[0].split("[")[0]


@dataclass
class Running:
    """A started server with everything it started; ``problem`` says why there is none."""

    server: Server
    port: int
    grpc: int
    mark: str
    model: Path
    started_s: float = 0.0
    problem: str = ""

    def processes(self) -> list[int]:
        """Its processes, found by what it was started with: also those that left its group."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    environ = (folder / "environ").read_bytes()
                except OSError:
                    continue
                if self.mark.encode() in environ:
                    found.append(int(folder.name))
        return found

    def cpu_s(self) -> float:
        """Seconds that all its processes have run."""
        return sum(sum(map(int, _stat(number)[11:13])) / TICKS for number in self.processes())

    def memory_bytes(self) -> int:
        """Their resident memory. What two of them share counts twice."""
        return sum(int(stat[21]) * PAGE for stat in map(_stat, self.processes()) if len(stat) > 21)

    def shared_once_bytes(self) -> int:
        """The same with every page counted for each process by its part of it: the PSS of proc(5)."""
        return sum(map(_proportional_bytes, self.processes()))

    def signal(self, number: signal.Signals) -> None:
        for process in self.processes():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Peers are stopped while another is measured: some of them work when nobody asks."""
        if self.server.is_peer:
            self.signal(signal.SIGCONT)
        yield
        if self.server.is_peer:
            self.signal(signal.SIGSTOP)

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Stopped from now on, but for when it is ``awake``."""
        if self.server.is_peer:
            self.signal(signal.SIGSTOP)
        yield
        self.signal(signal.SIGCONT)


@contextmanager
def running(
    server: Server, model: Path, workers: int, log: Path, ask: Callable[[Running], bool], *, grpc: bool
) -> Iterator[Running]:
    """Start a server, wait until ``ask`` says that it answers, stop it with all it started."""
    port = free_port()
    found = Running(server, port, port + 1, f"{MARK}={uuid.uuid4().hex}", model)
    words = {"model": str(model), "port": str(found.port), "grpc": str(found.grpc), "workers": str(workers)}
    line = [*server.command, *(server.when_grpc if grpc else ()), *(server.when_workers if workers > 1 else ())]
    command = [part.format(**words) for part in line]
    environ = {**os.environ, **server.environ, MARK: found.mark.partition("=")[2]}
    environ |= {"MODEL": str(model), "PORT": str(found.port), "GRPC_PORT": str(found.grpc), "WORKERS": str(workers)}
    if server.is_peer:
        command[0] = str(venv_of(server) / "bin" / command[0])
        environ |= {"PYTHONPATH": str(PEERS), "PATH": f"{venv_of(server) / 'bin'}:{environ['PATH']}"}
        if not Path(command[0]).exists():
            found.problem = f"its environment was not made: {venv_of(server).name}"
            yield found
            return
    began = time.perf_counter()
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdout=errors, stderr=errors, env=environ, cwd=PEERS, start_new_session=True)
    try:
        found.problem = _wait_ready(process, found, ask)
        found.started_s = time.perf_counter() - began
        yield found
    finally:
        _stop(process, found)


def _wait_ready(process: "subprocess.Popen[bytes]", found: Running, ask: Callable[[Running], bool]) -> str:
    ends = time.monotonic() + READY_WITHIN_S
    while not ask(found):
        if process.poll() is not None:
            return f"it ended with code {process.returncode} instead of answering"
        if time.monotonic() > ends:
            return f"it did not answer within {READY_WITHIN_S:g} s"
        time.sleep(0.01)
    return ""


def _stop(process: "subprocess.Popen[bytes]", found: Running) -> None:
    """Ask it to end, then end what is left of it."""
    found.signal(signal.SIGCONT)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(3.0 if found.server.is_peer else 0.2)
    while found.processes():
        found.signal(signal.SIGKILL)
        process.poll()
        time.sleep(0.05)
    process.wait()


def free_port() -> int:
    """A port of which the two above it are free as well, all below those that the system gives to clients."""
    while True:
        port = random.randrange(15_000, 32_000, 4)
        if all(map(_is_free, range(port, port + 3))):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def _proportional_bytes(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; proc(5) counts them from 3."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 50
