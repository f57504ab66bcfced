"""How a worker process is started, and what its environment holds."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from foretell.board import Board, Slot
from foretell.cpus import count_cpus
from foretell.settings import PREFIX
from foretell.workers.channel import Channel

POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What runtimes that know nothing of our settings read when they are first imported."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True)
class Spawner:
    """Starts workers, all of which inherit the board and the listening socket."""

    board: Board
    listening: socket.socket
    environ: Mapping[str, str]
    python: Sequence[str]

    def __call__(self, slot: Slot) -> tuple[int, Channel]:
        """A process for a slot, and the channel to it. Raises OSError."""
        ours, theirs = socket.socketpair()
        inherited = (theirs.fileno(), self.board.fd, self.listening.fileno())
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        command = [*self.python, "-m", "foretell.workers.worker", *map(str, inherited)]
        try:
            pid = os.posix_spawn(sys.executable, command, self.environ)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        slot.take(pid)
        return pid, Channel(ours)


def worker_environ(environ: Mapping[str, str], workers: int) -> dict[str, str]:
    """The environment of a worker: no settings, which come over its channel, and its share of the processors."""
    kept = {name: value for name, value in environ.items() if not name.startswith(PREFIX)}
    return {**dict.fromkeys(POOLS, str(count_cpus().each(workers))), **kept}


class Signals:
    """Signals as something to be read, between events and never amid one. One that was ignored from outside stays so."""

    def __init__(self, stack: ExitStack) -> None:
        self.arrived, self._sent = socket.socketpair()
        for end in (self.arrived, self._sent):
            end.setblocking(False)
            stack.callback(end.close)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(self._sent.fileno(), warn_on_full_buffer=False))
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                stack.callback(signal.signal, number, signal.signal(number, _noted))

    def read(self) -> Sequence[int]:
        """The numbers of those that have come."""
        try:
            return self.arrived.recv(4096)
        except BlockingIOError:
            return ()


def reap(ended: Callable[[int, int], None]) -> None:
    """Tell of every child that has ended its pid and exit code (minus a signal's number), also of those that were adopted."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended(pid, os.waitstatus_to_exitcode(status))


def _noted(number: int, frame: object) -> None:
    """The number of the signal is read from the socket."""


def python_command() -> list[str]:
    """The interpreter, which looks for modules in the working folder only if this one does."""
    return [sys.executable] if sys.path[:1] in ([""], [os.getcwd()]) else [sys.executable, "-P"]
