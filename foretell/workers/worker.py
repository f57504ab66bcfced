"""One worker process: it takes its orders from the supervisor, shows signs of life, and serves.

python -m foretell.workers.worker CHANNEL BOARD SOCKET: the numbers of the descriptors that it inherits.
"""

import asyncio
import ctypes
import faulthandler
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import uvloop

from foretell.assemble import Company, Seat, Service, find_all, model_names, serve_from
from foretell.board import Board, SlotState, Turns
from foretell.engine.change import Change
from foretell.engine.loader import Loader
from foretell.engine.states import Control, IndexEntry
from foretell.errors import Broken, ForetellError, Unavailable
from foretell.memory import resident_bytes
from foretell.modes.http.server import HttpServer
from foretell.observe.logs import configure
from foretell.passage import Observer, Passage
from foretell.settings import Settings, SupervisorSettings
from foretell.workers.channel import Channel, Message, pack_error, unpack_error

log = logging.getLogger("foretell")

BEAT_S = 0.25
PUBLISH_EVERY = 4  # beats
END_MARGIN_S = 5.0
_TELL_WHEN_PARENT_ENDS = 1  # PR_SET_PDEATHSIG, https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html


def main() -> int:
    """Serve until the supervisor says stop, or is gone; gives the exit code."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # a terminal or a service manager tells them all at once
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    descriptors = [int(each) for each in sys.argv[1:]]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    channel, board = Channel(socket.socket(fileno=descriptors[0])), Board(descriptors[1])
    with socket.socket(fileno=descriptors[2]) as listening:
        listening.setblocking(False)
        order = channel.wait()
        if order is None or "settings" not in order:
            return 0
        settings = msgspec.convert(order["settings"], Settings)
        configure(settings.log, worker=order["slot"])
        _end_with_supervisor(descriptors[0], settings.timeouts.shutdown_s + END_MARGIN_S)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(order, settings, channel, board, listening))
        except ForetellError as error:
            log.debug("this worker cannot start", exc_info=error)
            channel.send({"is": "refused", "error": pack_error(error)})
            return 1
        except Exception as error:
            log.exception("this worker ends by a mistake of its own")
            channel.send({"is": "refused", "error": pack_error(Broken("internal", f"a mistake of its own: {error!r}"))})
            return 1
    return 0


def _end_with_supervisor(channel: int, within_s: float) -> None:
    """Outlive a supervisor that was killed by so long at most, even if a model holds up the event loop, or we are stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_TELL_WHEN_PARENT_ENDS, signal.SIGCONT, 0, 0, 0)
    gone = select.poll()
    gone.register(channel, 0)  # no more than that the other end is closed

    def wait() -> None:
        gone.poll()
        time.sleep(within_s)
        os._exit(1)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()


async def _serve(order: Message, settings: Settings, channel: Channel, board: Board, listening: socket.socket) -> None:
    slot, control, wear = board.slots[order["slot"]], SharedControl(channel), Wear(settings.supervisor)
    service = Service(settings, order["environ"], Company(board, slot, control.over), wear.observers)
    seat = WorkerSeat(service, listening, channel, Turns(board, slot), control, wear)
    seat.served, seat.lacking = order["served"], order["lacking"]
    await serve_from(seat, find_all(map(Path, order["paths"]), order["name"]))


class WorkerSeat(Seat):
    """Serves from sockets that all workers share, and does as the supervisor says."""

    shares_ports = True
    turns: Turns

    def __init__(
        self, service: Service, listening: socket.socket, channel: Channel, turns: Turns, control: "SharedControl", wear: "Wear"
    ) -> None:
        super().__init__(service, listening)
        self.channel = channel
        self.turns = turns
        self.slot = turns.own
        self.control = control
        self.wear = wear
        self.beats = 0
        self.may_listen = not turns.others_ready

    def take(self, server: HttpServer) -> None:
        """Begin to show signs of life, and to take orders."""
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.loop.add_signal_handler(signal.SIGTERM, self._wear_out, "SIGTERM came to it alone")
        self.loop.add_reader(self.channel.socket.fileno(), self._hear)
        self._beat()
        self._hear()

    def loaded(self, grpc_port: int) -> None:
        """Be ready, and tell the supervisor what is served."""
        if self.slot.state is SlotState.STARTING:
            self.slot.state = SlotState.READY
        self.server.accepting.resume()
        self.channel.send({"is": "ready", "models": model_names(self.service), **self.control.state()})

    def _beat(self) -> None:
        self.loop.call_later(BEAT_S, self._beat)
        self.slot.beat(self.server.accepting.count, self.server.server_state.total_requests)
        faulthandler.dump_traceback_later(0.8 * self.service.settings.supervisor.hang_s)  # tells where it hangs, if it does
        self.beats += 1
        if self.beats % PUBLISH_EVERY == 0:
            self.service.metrics.publish()
            if why := self.wear.why():
                self._wear_out(why)
        if self.slot.state is SlotState.STARTING:
            self.server.accepting.resume()  # others were ready when it left connections to them, and perhaps are no more

    def _wear_out(self, why: str) -> None:
        self.channel.send({"is": "worn", "why": why})

    def _hear(self) -> None:
        for message in self.channel.receive():
            self._obey(message)
        if not self.channel.open:
            self.loop.remove_reader(self.channel.socket.fileno())
            self.control.close()
            log.error("the supervisor is gone: what is in flight is answered, and then this worker ends")
            self._stop(0.0)

    def _obey(self, message: Message) -> None:
        match message["do"]:
            case "stop":
                self._stop(message["grace_s"])
            case "retire":
                self.slot.state = SlotState.DRAINING
                self.server.retire()
            case "watch":
                self.service.watch()
            case _:
                self.control.obey(message)

    def _stop(self, grace_s: float) -> None:
        if not self.server.is_stopping:
            self.slot.state = SlotState.DRAINING
            self.server.stop(grace_s)


class SharedControl:
    """What a door may do to the repository, in all workers at once: this worker's part of it, and its wishes."""

    loader: Loader

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._questions: dict[int, asyncio.Future[None]] = {}
        self._prepared: dict[int, asyncio.Task[Change]] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._count = 0

    def over(self, loader: Loader) -> Control:
        """Itself, over the loader of this worker."""
        self.loader = loader
        return self

    def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        return self.loader.index(ready_only=ready_only)

    async def rescan(self) -> None:
        await self.loader.rescan()

    async def load(self, name: str) -> None:
        await self._ask("load", name)

    async def unload(self, name: str) -> None:
        await self._ask("unload", name)

    def state(self) -> Message:
        """``served``: model -> its versions; ``lacking``: those that are lost; ``made``: model -> a mark of its files."""
        files: dict[str, list[object]] = {}
        for (name, version), each in sorted(self.loader.loaded.items()):
            files.setdefault(name, []).append((version, each.made.source, sorted(each.made.files)))
        return {
            "served": {name: list(versions) for name, versions in self.loader.served().items()},
            "lacking": sorted(self.loader.catalog.lacking),
            "made": {name: crc32(repr(each).encode()) for name, each in files.items()},
        }

    def close(self) -> None:
        """There is nobody any more who would answer."""
        for future in self._questions.values():
            if not future.done():
                future.set_exception(Unavailable("not_ready", "the server is stopping", retry_after_s=1))

    def obey(self, message: Message) -> None:
        """Follow an order that concerns a model, or take an answer."""
        match message["do"]:
            case "answer":
                self._answered(message["question"], message["error"])
            case "prepare":
                self._prepared[message["change"]] = asyncio.ensure_future(self.loader.prepare(message["name"]))
                self._follow(message["change"], self._prepare(message["change"]))
            case "commit":
                self._follow(message["change"], self._commit(message["change"]))
            case "abandon":
                self._follow(message["change"], self._abandon(message["change"]))
            case "unload":
                self._follow(message["change"], self.loader.unload(message["name"]))

    async def _ask(self, verb: str, name: str) -> None:
        self._count += 1
        number = self._count
        future = self._questions[number] = asyncio.get_running_loop().create_future()
        self.channel.send({"is": "asking", "question": number, "verb": verb, "name": name})
        if not self.channel.open:
            self.close()
        try:
            await future
        finally:
            del self._questions[number]

    def _answered(self, number: int, error: Mapping[str, Any] | None) -> None:
        future = self._questions.get(number)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(unpack_error(error))

    async def _prepare(self, number: int) -> None:
        await asyncio.shield(self._prepared[number])

    async def _commit(self, number: int) -> None:
        await self._prepared.pop(number).result().commit()

    async def _abandon(self, number: int) -> None:
        """Let go of what was prepared, as soon as it is."""
        task = self._prepared.pop(number)
        await asyncio.wait({task})
        if task.exception() is None:
            await task.result().abandon()

    def _follow(self, change: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._following.add(task)
        task.add_done_callback(partial(self._followed, change))

    def _followed(self, change: int, task: "asyncio.Task[None]") -> None:
        self._following.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, ForetellError):
            log.error("a change of models failed by a mistake of our own", exc_info=error)
            error = Broken("internal", "the server made a mistake on this change")
        packed = None if error is None else pack_error(error)
        self.channel.send({"is": "done", "change": change, "error": packed, **self.state()})


class Wear:
    """What uses a worker up: requests and memory."""

    def __init__(self, limits: SupervisorSettings) -> None:
        self.limits = limits
        self.requests = 0
        self.observers: Sequence[Observer] = (self._count,) if limits.max_requests else ()
        self.is_told = False

    def why(self) -> str:
        """Why this worker is to be replaced; nothing if it need not be, or if that has been told."""
        if not self.is_told:
            reason = self._reason()
            self.is_told = bool(reason)
            return reason
        return ""

    def _reason(self) -> str:
        most_requests, most_bytes = self.limits.max_requests, self.limits.max_rss_bytes
        if most_requests and self.requests >= most_requests:
            return f"it has answered {self.requests} requests (supervisor.max_requests)"
        if most_bytes and (held := resident_bytes()) > most_bytes:
            return f"it holds {held} bytes of memory (supervisor.max_rss_bytes)"
        return ""

    def _count(self, passage: Passage) -> None:
        self.requests += 1


if __name__ == "__main__":
    sys.exit(main())
