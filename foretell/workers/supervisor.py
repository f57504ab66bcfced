"""Keeps the workers alive: starts them, replaces those that die, hang or are worn, and stops them as it should.

It holds the sockets, the board and the orders, and loads no runtime: a process that does so little has no reason to die.
"""

import logging
import os
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from foretell.board import Board, Slot, SlotState
from foretell.errors import ForetellError, Setup
from foretell.settings import Settings
from foretell.sockets import listen, reserve, tell_ready
from foretell.workers.changes import Changes, Member, State
from foretell.workers.channel import Channel, Message, unpack_error
from foretell.workers.crashes import Crashes, oom_kills
from foretell.workers.spawn import Signals, Spawner, python_command, reap, worker_environ

log = logging.getLogger("foretell")

TICK_S = 0.5
FIRST_SIGN_WITHIN_S = 20.0  # a worker loads its libraries before its first heartbeat
STOP_MARGIN_S = 5.0
RELIEVE_AGAIN_S = 60.0


def supervise(paths: Sequence[Path], name: str | None, settings: Settings, environ: Mapping[str, str]) -> int:
    """Serve models from worker processes until a signal; gives the exit code. Raises Setup when it cannot start."""
    with ExitStack() as stack:
        listening = stack.enter_context(listen(settings.host, settings.http.port))
        if settings.grpc.port >= 0:
            kept = stack.enter_context(reserve(settings.host, settings.grpc.port))
            settings = replace(settings, grpc=replace(settings.grpc, port=kept.getsockname()[1]))
        order = {
            "paths": [str(path) for path in paths],
            "name": name,
            "settings": asdict(settings),
            "environ": {key: value for key, value in environ.items() if key.startswith("AIP_")},
        }
        board = Board.create(settings.workers + 1)  # one more: a successor starts beside whom it follows
        spawn = Spawner(board, listening, worker_environ(environ, settings.workers), python_command())
        return Supervisor(settings, board, spawn, order).run(Signals(stack))


@dataclass(eq=False)
class Worker:
    """One process. ``ordered``: it was told what to serve. ``leaving``: it was told to end. ``why``: what ended it.

    ``oom_kills``: how often the kernel had killed for want of memory when it was started.
    """

    pid: int
    slot: Slot
    channel: Channel
    seat: "Seat"
    since: float
    ordered: bool = False
    ready: bool = False
    leaving: bool = False
    why: str = ""
    killed: bool = False
    oom_kills: int | None = field(default_factory=oom_kills)

    def was_killed_from_outside(self, code: int) -> bool:
        """Whether somebody killed it: neither what it computed, nor want of memory, nor we."""
        return code == -signal.SIGKILL and not self.killed and self.oom_kills is not None and self.oom_kills == oom_kills()


@dataclass(eq=False)
class Seat:
    """One of the workers that there are to be: who has it, who is to follow, and where and when to start somebody."""

    crashes: Crashes
    slot: Slot
    worker: Worker | None = None
    successor: Worker | None = None
    due: float | None = 0.0
    failed: bool = False
    worn_since: float | None = None  # not to be relieved before

    @property
    def ready(self) -> bool:
        return self.worker is not None and self.worker.ready


class Supervisor:
    """``run`` starts the workers and ends when they have. Everything happens on one thread, one event at a time."""

    def __init__(self, settings: Settings, board: Board, spawn: Spawner, order: Mapping[str, Any]) -> None:
        self.settings = settings
        self.board = board
        self.spawn = spawn
        self.order = order
        self.vacant = list(board.slots)
        most = settings.supervisor.max_crashes
        self.seats = [Seat(Crashes(most), self.vacant.pop(0)) for _ in range(settings.workers)]
        self.workers: dict[int, Worker] = {}
        self.watcher: Worker | None = None  # who looks for models that come and go
        self.changes = Changes(self._members, self._break, settings.timeouts.load_s)
        self.selector = selectors.DefaultSelector()
        self.began = self.ticked = self.awake_since = time.monotonic()
        self.announced = False
        self.stops_by: float | None = None
        self.reason: ForetellError | None = None
        self.exit_code = 0

    def run(self, signals: Signals) -> int:
        """Until a signal, or until no worker can be kept alive. Raises what a worker could not start for."""
        self.selector.register(signals.arrived, selectors.EVENT_READ, lambda: self._signalled(signals.read()))
        while self.workers or self.stops_by is None:
            self._tick()
            for key, _ in self.selector.select(self._wait_s()):
                key.data()
        if self.reason is not None:
            raise self.reason
        return self.exit_code

    # -- time

    def _wait_s(self) -> float:
        """Until the next tick, or until a worker is due."""
        due = [seat.due for seat in self.seats if seat.due is not None and self.stops_by is None]
        return max(0.0, min([self.ticked + TICK_S, *due]) - time.monotonic())

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self.ticked > 3 * TICK_S:  # this process was stopped itself, and the workers perhaps with it
            self.awake_since = now
        self.ticked = now
        for worker in self.workers.values():
            self._check(worker, now)
        if self.stops_by is not None:
            if now > self.stops_by:
                self.exit_code = 1
                self._kill_all("it did not end in time")
            return
        for seat in self.seats:
            if seat.due is not None and seat.due <= now:
                self._start(seat, now)
        self.changes.tick(now)
        self._go_on(now)

    def _check(self, worker: Worker, now: float) -> None:
        """Kill a worker that gives no sign of life."""
        heartbeat, hang_s = worker.slot.heartbeat, self.settings.supervisor.hang_s
        silent_s = now - max(heartbeat, worker.since, self.awake_since)
        if worker.ordered and silent_s > (hang_s if heartbeat else max(hang_s, FIRST_SIGN_WITHIN_S)):
            self._break(worker, f"it gave no sign of life for {silent_s:.1f} s")

    def _go_on(self, now: float) -> None:
        """Do what had to wait: for a change of models to end, or for a worker to start."""
        if not self.changes.running:
            for worker in self.workers.values():
                self._give_order(worker, now)
        self.changes.begin(now)
        self._relieve(now)
        if self.settings.repository.poll_s and (self.watcher is None or self.watcher.leaving):
            self.watcher = next(iter(self._serving()), None)
            if self.watcher is not None:
                self.watcher.channel.send({"do": "watch"})

    # -- signals

    def _signalled(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                reap(self._ended)
            elif self.stops_by is None:
                self._stop(self.settings.timeouts.drain_grace_s if number == signal.SIGTERM else 0.0)
            elif self.reason is None:
                self._kill_all("a second signal came")
                os._exit(1)

    def _stop(self, grace_s: float) -> None:
        self.stops_by = time.monotonic() + grace_s + self.settings.timeouts.shutdown_s + STOP_MARGIN_S
        self.spawn.listening.close()  # else connections would wait for nobody, when the last worker has closed its own
        for worker in self.workers.values():
            worker.channel.send({"do": "stop", "grace_s": grace_s})

    def _give_up(self, reason: ForetellError) -> None:
        """End everything at once, and say why."""
        self.reason = self.reason or reason
        self.stops_by = time.monotonic()
        self._kill_all("the server could not start")

    # -- workers

    def _start(self, seat: Seat, now: float) -> None:
        """Start a worker for a seat that has none."""
        seat.due = None
        if seat.slot.state is SlotState.GONE:
            self.board.count_restart()
        seat.worker = self._spawn(seat, seat.slot, now)
        if seat.worker is None:
            self._replace(seat, now, "could not be started")

    def _spawn(self, seat: Seat, slot: Slot, now: float) -> Worker | None:
        try:
            pid, channel = self.spawn(slot)
        except OSError as error:
            log.error("a process could not be started: %s", error)
            return None
        worker = self.workers[pid] = Worker(pid, slot, channel, seat, now)
        self.selector.register(channel.socket, selectors.EVENT_READ, partial(self._hear, worker))
        if not self.changes.running:
            self._give_order(worker, now)
        return worker

    def _give_order(self, worker: Worker, now: float) -> None:
        """Tell a worker that has just been started what to serve."""
        if not worker.ordered:
            worker.ordered, worker.since = True, now
            known = self.changes.known
            served, lacking = (known["served"], known["lacking"]) if known is not None else (None, [])
            may_lack = bool(lacking) or (self.announced and not self._serving())  # better to serve some than none
            more = {"served": served, "lacking": lacking if may_lack else None}
            worker.channel.send({**self.order, "slot": worker.slot.number, **more})

    def _relieve(self, now: float) -> None:
        """Start the successor of a worn worker, if that is nobody else's turn."""
        if self.stops_by is not None or self.changes.running or not self.vacant or any(seat.successor for seat in self.seats):
            return
        for seat in self.seats:
            if seat.ready and seat.worn_since is not None and seat.worn_since <= now:
                slot = self.vacant.pop(0)
                seat.successor = self._spawn(seat, slot, now)
                if seat.successor is None:
                    self.vacant.append(slot)
                return

    def _serving(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.ready and not worker.leaving]

    def _members(self) -> list[Member] | None:
        """Those whom a change of models concerns; None while somebody is starting."""
        return [*self._serving()] if all(worker.ready for worker in self.workers.values()) else None

    def _break(self, worker: Member, why: str) -> None:
        """Kill a worker, so that another comes in its place."""
        assert isinstance(worker, Worker)
        if not worker.killed:
            worker.killed, worker.why = True, worker.why or why
            os.kill(worker.pid, signal.SIGKILL)

    def _kill_all(self, why: str) -> None:
        for worker in self.workers.values():
            self._break(worker, why)

    # -- what workers say

    def _hear(self, worker: Worker) -> None:
        for message in worker.channel.receive():
            self._told(worker, message, time.monotonic())
        if not worker.channel.open:
            self._deafen(worker)

    def _deafen(self, worker: Worker) -> None:
        if worker.channel.socket.fileno() >= 0:
            self.selector.unregister(worker.channel.socket)
            worker.channel.close()

    def _told(self, worker: Worker, message: Message, now: float) -> None:
        match message["is"]:
            case "asking":
                self.changes.ask(worker, message["question"], message["verb"], message["name"], now)
            case "done":
                self.changes.did(worker, message["change"], message["error"], _state(message), now)
            case "ready":
                self._ready(worker, message)
            case "worn" if self.stops_by is None:
                log.info("worker %d is to be replaced: %s", worker.slot.number, message["why"])
                worker.seat.worn_since = now
            case "refused":
                worker.why = message["error"]["message"]
                if not self.announced:
                    self._give_up(unpack_error(message["error"]))
        self._go_on(now)

    def _ready(self, worker: Worker, message: Message) -> None:
        worker.ready = True
        seat = worker.seat
        if seat.successor is worker:
            if seat.worker is not None:
                seat.worker.leaving = True
                seat.worker.channel.send({"do": "retire"})
            seat.worker, seat.slot = worker, worker.slot
            seat.successor = seat.worn_since = None
        self.changes.came(worker, _state(message), time.monotonic())
        self._announce(message["models"])

    def _announce(self, models: Sequence[str]) -> None:
        """Print once that all is ready, and where."""
        if not self.announced and all(seat.ready or seat.failed for seat in self.seats):
            self.announced = True
            tell_ready(self.settings, self.spawn.listening, models, time.monotonic() - self.began)

    # -- what becomes of workers

    def _ended(self, pid: int, code: int) -> None:
        """A process has ended: a worker, or one that was left to us."""
        worker = self.workers.get(pid)
        if worker is None:
            return
        self._hear(worker)
        self._deafen(worker)
        del self.workers[pid]
        self.watcher = None if self.watcher is worker else self.watcher
        now = time.monotonic()
        self.changes.left(worker, now)
        if self.stops_by is not None:
            self.exit_code = self.exit_code or int(code != 0)
        elif code > 0 and not (self.announced or worker.slot.heartbeat):  # the next one would end in the same way
            text = f"a worker could not begin: it {_how(code)} before it had taken its orders, and what it said stands above"
            self._give_up(Setup("workers_failed", text))
        elif worker.leaving and code == 0:
            self._vacate(worker.slot)
        else:
            self._crashed(worker, code, now)
        if self.stops_by is None:
            self._go_on(now)

    def _crashed(self, worker: Worker, code: int, now: float) -> None:
        seat, how = worker.seat, f"{_how(code)}{worker.why and f' ({worker.why})'}"
        suspects = worker.slot.leave(SlotState.GONE)
        if not worker.was_killed_from_outside(code):
            for _ in self.board.suspicion.crashed(suspects):
                log.error("a request that was being computed at two crashes is refused from now on")
        if worker is seat.worker and seat.successor is None:
            self._replace(seat, now, how)
            return
        log.error("worker %d %s", worker.slot.number, how)
        self._vacate(worker.slot)
        if worker is seat.successor:
            seat.successor, seat.worn_since = None, now + RELIEVE_AGAIN_S
        elif worker is seat.worker and seat.successor is not None:
            seat.worker, seat.slot = seat.successor, seat.successor.slot
            seat.successor = seat.worn_since = None

    def _replace(self, seat: Seat, now: float, how: str) -> None:
        """Start another in a while; or after too many crashes, never."""
        seat.worker, seat.worn_since = None, None
        wait_s = seat.crashes.add(now)
        if wait_s is not None:
            seat.due = now + wait_s
            log.error("worker %d %s: another is started in %.1f s", seat.slot.number, how, wait_s)
            return
        seat.failed = True
        seat.slot.state = SlotState.FAILED
        most = self.settings.supervisor.max_crashes
        log.error("worker %d %s: FAILED, after %d crashes within a minute it is given up", seat.slot.number, how, most)
        if all(seat.failed for seat in self.seats):
            text = f"every worker crashed {most} times within a minute, the last one so: {how}"
            self._give_up(Setup("workers_failed", text))

    def _vacate(self, slot: Slot) -> None:
        slot.leave(SlotState.VACANT)
        self.vacant.append(slot)


def _state(message: Message) -> State:
    """The part of a worker's message that says what it has."""
    return State(served=message["served"], lacking=message["lacking"], made=message["made"])


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
