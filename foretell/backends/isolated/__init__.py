"""A model in a process of its own, as a backend: it may hold the GIL, hang or crash, and the server goes on.

What is sent waits in shared memory; no pickle, port or name is involved. The process ends with the server, however that ends.
"""

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic

from foretell.backends import Backend, ModelOptions
from foretell.backends.isolated.child import Order
from foretell.backends.isolated.process import ModelProcess, show_end
from foretell.backends.isolated.wire import Lost
from foretell.errors import Setup, Unavailable
from foretell.tensors import Arrays, Signature

log = logging.getLogger("foretell")
LOAD_S = 300.0
ENDING_S = 2.0
MOST_CRASHES = 5
WITHIN_S = 60.0
MOST_KEPT_BYTES = 2**20
PAUSES_S = (0.0, 0.4, 1.6, 6.4)


class IsolatedModel:
    """Keeps one process with the model, and starts another when it crashes.

    After ``MOST_CRASHES`` within ``WITHIN_S`` seconds it is given up. ``forward`` raises Unavailable: ``model_crashed`` for
    what was in the process when it crashed, ``not_ready`` while another starts, ``model_given_up`` after that. Before another
    starts there is a pause, ``pauses_s``: after the first crash, the second, and so on.
    """

    signature: Signature
    facts: Mapping[str, str]

    def __init__(self, order: Order, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self.outage: str | None = "its process is being started"
        self.given_up = False
        self._order = order
        self._pauses_s = pauses_s
        self._process: ModelProcess | None = None
        self._turn = threading.Lock()  # of those that speak with the process
        self._rehearsal: Arrays | None = None  # the first call, of made-up rows: it warms up each process that is started later
        self._crashes: deque[float] = deque(maxlen=MOST_CRASHES)
        self._closing = threading.Event()

    def start(self) -> None:
        """Load the model in its first process. Raises Setup as ``load_backend`` does."""
        started = threading.Event()
        errors: list[Setup] = []
        threading.Thread(target=self._keep, args=(started, errors), name="isolated", daemon=True).start()
        started.wait()
        if errors:
            raise errors[0]

    @property
    def memory_bytes(self) -> int:
        """What the process holds at this moment."""
        process = self._process
        return 0 if process is None else process.memory_bytes

    def forward(self, inputs: Arrays) -> Arrays:
        with self._turn:
            process = self._process
            if process is None:
                raise self._refusal()
            try:
                answers = process.forward(inputs)
                if self._rehearsal is None:
                    self._rehearsal = _copied(inputs)
                return answers
            except Lost as error:
                self._process, self.outage = None, "its process has crashed"
                process.kill()  # it may have hung up alone, and be there still
                text = "the model's process ended while it computed this: try again"
                raise Unavailable("model_crashed", text, retry_after_s=1) from error

    def kill(self) -> None:
        """End the process as it is, as if it had crashed: what is in it fails, and another is started."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        self._closing.set()
        process = self._process
        if process is not None:
            process.hang_up()
            ending = threading.Timer(ENDING_S, process.kill)
            ending.daemon = True
            ending.start()

    def _keep(self, started: threading.Event, errors: list[Setup]) -> None:
        """The life of the processes, in a thread of its own: the system ends a process with the thread that started it."""
        process: ModelProcess | None = None
        try:
            process = self._first()
        except Setup as error:
            errors.append(error)
        finally:
            started.set()
        while process is not None:
            end = show_end(process.wait())
            process.hang_up()  # whoever waits for it is not held up by processes that it has left behind
            with self._turn:
                self._process, self.outage = None, f"its process {end}"
                process.close()
            process = self._after(end)

    def _first(self) -> ModelProcess:
        try:
            process = ModelProcess(self._order, LOAD_S)
        except Lost as error:
            text = (
                f"{self._order.source}: the process that was to load it ended before it had ({error}): "
                "see its last words in the log"
            )
            raise Setup("broken_model", text) from error
        self.signature = process.signature
        self.facts = {**process.facts, "isolation": "a process of its own"}
        self._begin(process)
        return process

    def _begin(self, process: ModelProcess) -> None:
        self._process, self.outage = process, None
        if self._closing.is_set():
            process.hang_up()

    def _after(self, end: str) -> ModelProcess | None:
        """The process that takes over from one that ended so; None when closed, or given up."""
        while not self._closing.is_set():
            self._crashes.append(monotonic())
            if len(self._crashes) == MOST_CRASHES and self._crashes[-1] - self._crashes[0] < WITHIN_S:
                self._give_up(end)
                return None
            recent = sum(monotonic() - crash < WITHIN_S for crash in self._crashes)
            pause_s = self._pauses_s[min(recent, len(self._pauses_s)) - 1]
            self.outage = f"its process {end}, and another is being started"
            log.warning("the process of model %s %s: another is started %s", self._order.source, end, _when(pause_s))
            if self._closing.wait(pause_s):
                return None
            try:
                process = self._next()
            except (Lost, Setup) as error:
                log.warning("model %s cannot be loaded again: %s", self._order.source, error)
                end = "could not load it again"  # callers are told this, and no paths
            else:
                self._begin(process)
                return process
        return None

    def _next(self) -> ModelProcess:
        """Another process, warm. Raises Setup and Lost as ModelProcess does, and Setup where the model is another one now."""
        process = ModelProcess(self._order, LOAD_S, self._rehearsal or None)
        if process.signature != self.signature:
            process.kill()
            process.wait()
            process.close()
            raise Setup("broken_model", f"{self._order.source} takes or gives something else now: load the model again")
        return process

    def _give_up(self, end: str) -> None:
        self.outage = f"its process crashed {MOST_CRASHES} times within {WITHIN_S:g} s, and is given up; at last it {end}"
        self.given_up = True
        log.error("model %s: %s: correct it, and load it again", self._order.source, self.outage)

    def _refusal(self) -> Unavailable:
        if self._closing.is_set():
            return Unavailable("not_ready", "the model is closed: load it again")
        if self.given_up:
            return Unavailable(
                "model_given_up", "the model's process crashed again and again, and was given up", retry_after_s=60
            )
        return Unavailable("not_ready", "the model's process is being started again: try again", retry_after_s=1)


def _copied(inputs: Arrays) -> Arrays:
    """Inputs to keep; none of large ones."""
    if sum(array.nbytes for array in inputs.values()) > MOST_KEPT_BYTES:
        return {}
    return {name: array.copy() for name, array in inputs.items()}


def _when(pause_s: float) -> str:
    return f"in {pause_s:g} s" if pause_s else "at once"


def load(source: object, options: ModelOptions, backend: str | None) -> Backend:
    """The model at ``source``, loaded by that backend in a process of its own.

    Raises Setup as the backend does, and ``wrong_setting`` for what cannot be loaded there.
    """
    if not hasattr(os, "memfd_create"):
        raise Setup("wrong_setting", 'a model gets a process of its own on Linux only: remove isolation = "process"')
    if not isinstance(source, str):
        raise Setup(
            "wrong_setting", 'only a model in a file gets a process of its own: save it, or remove isolation = "process"'
        )
    try:
        json.dumps(dict(options.options))
    except (TypeError, ValueError) as error:
        text = f"{source}: its options cannot be told to another process ({error}): use texts, numbers, lists and tables"
        raise Setup("wrong_setting", text) from error
    model = IsolatedModel(Order(source, backend, replace(options, isolated=False), log.getEffectiveLevel()))
    model.start()
    return model
