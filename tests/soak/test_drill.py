"""The SIGTERM drill: two servers behind a balancer that honours readiness two seconds late, and one of them is stopped.

What a rolling update does to every replica: no request may be lost, however often it is done.
"""

import itertools
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.serving import MODELS, Served, Wire, double, eventually, free_port, serving
from tests.soak import rounds

PER_SECOND = 200
CLIENTS = 8
LAG_S = 2.0
READY = b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


class Balancer:
    """Sends requests to the servers in turns, each client over kept connections; looks every two seconds who is ready."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.in_rotation = list(ports)
        self.answered = dict.fromkeys(ports, 0)
        self.lost: list[str] = []
        self._turns = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._look), *(threading.Thread(target=self._ask) for _ in range(CLIENTS))]

    def __enter__(self) -> "Balancer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def note(self, what: str, port: int) -> None:
        """Something that must not happen, and when and where it did."""
        self.lost.append(f"{time.monotonic():.2f} s, port {port}: {what}")

    def _look(self) -> None:
        while not self._stop.wait(LAG_S):
            self.in_rotation = [port for port in self.ports if is_ready(port)]

    def _ask(self) -> None:
        kept: dict[int, Wire] = {}
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += CLIENTS / PER_SECOND
            rotation = self.in_rotation
            port = rotation[next(self._turns) % len(rotation)]
            wire = self._send(kept.pop(port, None), port)
            if wire is not None:
                kept[port] = wire
        for wire in kept.values():
            wire.socket.close()

    def _send(self, wire: Wire | None, port: int) -> Wire | None:
        """Ask one of the servers; gives the connection if it is kept."""
        if wire is not None and is_closed(wire):
            wire = None
        try:
            wire = wire or Wire(port)
            answer = wire.ask(double())
        except (OSError, EOFError) as error:
            self.note(
                f"{error!r} on a {'new' if wire is None else 'kept'} connection, with {self.in_rotation} in rotation", port
            )
            if wire is not None:
                wire.socket.close()
            return None
        if answer.status == 200:
            self.answered[port] += 1
        else:
            self.note(f"{answer.status} {answer.body[:100]!r}", port)
        if answer.header(b"connection") != b"close":
            return wire
        wire.socket.close()
        return None


def is_closed(wire: Wire) -> bool:
    """Whether the server has closed a connection that was kept idle: every pool of connections looks before it uses one."""
    if not select.select([wire.socket], [], [], 0)[0]:
        return False
    wire.socket.close()
    return True


def is_ready(port: int) -> bool:
    try:
        with Wire(port, timeout_s=1.0) as wire:
            return wire.ask(READY).status == 200
    except (OSError, EOFError):
        return False


@contextmanager
def server(folder: Path, port: int) -> Iterator[Served]:
    folder.mkdir(exist_ok=True)
    grace = ("--timeouts-drain-grace-s", str(rounds(3, 5)))
    with serving(folder, "--workers", "2", *grace, "--http-port", str(port), models={"double": MODELS["double"]}) as served:
        yield served


def test_no_request_is_lost_when_one_of_two_servers_is_stopped(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        servers = {port: stack.enter_context(server(tmp_path / str(port), port)) for port in ports}
        with Balancer(ports) as balancer:
            for number in range(rounds(1, 10)):
                port = ports[number % 2]
                before = balancer.answered[port]
                assert eventually(lambda port=port, before=before: balancer.answered[port] > before + 20, within_s=20)
                told = time.monotonic()
                servers[port].process.send_signal(signal.SIGTERM)
                assert servers[port].process.wait(20) == 0, servers[port].log.read_text()
                servers[port] = stack.enter_context(server(tmp_path / str(port), port))
                assert eventually(lambda port=port: port in balancer.in_rotation, within_s=20)
                assert balancer.lost == [], f"port {port} was stopped at {told:.2f} s"
    assert balancer.lost == []
    print(f"{sum(balancer.answered.values())} answered, none lost")
