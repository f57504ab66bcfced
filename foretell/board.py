"""What the processes of one server see of each other: a small piece of memory that they share, and that dies with them."""

import mmap
import os
import tempfile
import time
from enum import IntEnum

from foretell.errors import Setup
from foretell.suspicion import REFUSED, SUSPECTED, Marks, Suspicion

COUNTERS_BYTES = 4 * 2**20
SUSPECTS = 64
_PAGE = 4096
_SLOT_BYTES = _PAGE + COUNTERS_BYTES
_SUSPECTS_AT = _REFUSED_AT = 512
_SUSPECTED_AT = _REFUSED_AT + 8 * REFUSED
_STATE, _PID, _HEARTBEAT, _CONNECTIONS, _REQUESTS = range(5)
_SLOTS, _RESTARTS = range(2)


class SlotState(IntEnum):
    """What becomes of a slot's worker. GONE: it died, and another will come; FAILED: it died too often, and none will."""

    VACANT = 0
    STARTING = 1
    READY = 2
    DRAINING = 3
    GONE = 4
    FAILED = 5


class Slot:
    """One worker's part: written by that worker alone while it lives, by the supervisor between two, read by all.

    ``suspects``: 64 unsigned numbers of 8 bytes. ``counters``: bytes, zero at first, which the slot's next worker goes on with.
    """

    def __init__(self, number: int, page: memoryview, counters: memoryview) -> None:
        self.number = number
        self.counters = counters
        self.suspects = page[_SUSPECTS_AT : _SUSPECTS_AT + 8 * SUSPECTS].cast("Q")
        self._whole = page[:_SUSPECTS_AT].cast("Q")
        self._real = page[:_SUSPECTS_AT].cast("d")

    def take(self, pid: int) -> None:
        """Give the slot to a worker that has just been started."""
        self._whole[_CONNECTIONS] = self._whole[_REQUESTS] = 0
        self._whole[_PID] = pid
        self._real[_HEARTBEAT] = 0.0
        self._whole[_STATE] = SlotState.STARTING

    def leave(self, state: SlotState) -> list[int]:
        """Note that the slot's worker has ended; gives the fingerprints of the requests that it was computing."""
        self._whole[_STATE] = state
        self._whole[_PID] = self._whole[_CONNECTIONS] = 0
        suspects = [each for each in self.suspects if each]
        self.suspects[:] = memoryview(bytes(8 * SUSPECTS)).cast("Q")
        return suspects

    def beat(self, connections: int, requests: int) -> None:
        """A sign of life, with how many connections are open and how many requests this worker has answered."""
        self._whole[_CONNECTIONS] = connections
        self._whole[_REQUESTS] = requests
        self._real[_HEARTBEAT] = time.monotonic()

    @property
    def state(self) -> SlotState:
        """What cannot be, after a stray write of some model's code, is as if the worker were gone."""
        number = self._whole[_STATE]
        return SlotState(number) if number <= max(SlotState) else SlotState.GONE

    @state.setter
    def state(self, state: SlotState) -> None:
        self._whole[_STATE] = state

    @property
    def pid(self) -> int:
        return self._whole[_PID]

    @property
    def heartbeat(self) -> float:
        """Monotonic seconds of the last sign of life, which all processes of a machine count alike; 0 before the first."""
        seen = self._real[_HEARTBEAT]
        return seen if 0.0 < seen <= time.monotonic() else 0.0

    @property
    def connections(self) -> int:
        return self._whole[_CONNECTIONS]

    @connections.setter
    def connections(self, count: int) -> None:
        self._whole[_CONNECTIONS] = count

    @property
    def requests(self) -> int:
        return self._whole[_REQUESTS]


class Board:
    """The shared memory: a header that the supervisor writes, and the slots. ``suspicion``: of requests, by their fingerprints.

    It has a descriptor and no name: whoever is killed, nothing is left behind. ``fd`` is what a worker inherits.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        memory = memoryview(mmap.mmap(fd, os.fstat(fd).st_size))
        self._whole = memory[:_SUSPECTS_AT].cast("Q")
        refused = memory[_REFUSED_AT:_SUSPECTED_AT].cast("Q")
        suspected = memory[_SUSPECTED_AT : _SUSPECTED_AT + 8 * SUSPECTED].cast("Q")
        self.suspicion = Suspicion(Marks(suspected), Marks(refused))
        parts = (memory[start : start + _SLOT_BYTES] for start in range(_PAGE, len(memory), _SLOT_BYTES))
        self.slots = tuple(Slot(number, part[:_PAGE], part[_PAGE:]) for number, part in enumerate(parts))

    @classmethod
    def create(cls, slots: int) -> "Board":
        """A new board, all of it zero; its memory is taken only where it is written. Raises Setup where nobody gives any."""
        size = _PAGE + slots * _SLOT_BYTES
        try:
            fd = os.memfd_create("foretell-board")
        except (AttributeError, OSError):  # no Linux, or a sandbox that has no such call
            fd = _nameless_file(size)
        os.ftruncate(fd, size)
        return cls(fd)

    @property
    def restarts(self) -> int:
        """Workers that were started in place of one that had died."""
        return self._whole[_RESTARTS]

    def count_restart(self) -> None:
        self._whole[_RESTARTS] += 1

    def states(self) -> dict[str, int]:
        """How many workers are in each state, by its name in small letters; slots that nobody is to have do not count."""
        counts = {state.name.lower(): 0 for state in SlotState if state is not SlotState.VACANT}
        for slot in self.slots:
            if slot.state is not SlotState.VACANT:
                counts[slot.state.name.lower()] += 1
        return counts

    def connections(self) -> dict[int, int]:
        """The open connections of each worker that lives, by the number of its slot."""
        return {slot.number: slot.connections for slot in self.slots if slot.pid}


def _nameless_file(size: int) -> int:
    """A file in the folder for temporary ones, whose room is taken at once: a full disk would kill who writes it later."""
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return os.dup(file.fileno())
    except OSError as error:
        text = f"there is no memory that workers could share, neither memfd_create nor a temporary file ({error.strerror})"
        raise Setup("no_shared_memory", text) from error


class Turns:
    """Who of the workers takes the next connection that waits on the socket that they share."""

    PATIENCE_S = 0.002

    def __init__(self, board: Board, own: Slot) -> None:
        self.own = own
        self.others = [slot for slot in board.slots if slot is not own]

    @property
    def others_ready(self) -> bool:
        """Whether another worker is there for what comes."""
        return any(slot.state is SlotState.READY for slot in self.others)

    def patience_s(self, connections: int) -> float | None:
        """How long a worker with so many leaves a connection to the others; None while it is for them alone."""
        self.own.connections = connections
        ready = [slot.connections for slot in self.others if slot.state is SlotState.READY]
        if self.own.state is SlotState.STARTING and ready:
            return None
        return self.PATIENCE_S if ready and min(ready) < connections else 0.0
