"""The other process: loads one model, and serves its forwards until the server hangs up.

Raises nothing: whatever a model raises is told to the server. It is started by ``process.py`` and by nobody else.
"""

import ctypes
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import msgspec

from foretell.backends import Backend, ModelOptions, describe, load_backend
from foretell.backends.isolated.wire import Line, Lost, Memory, Word
from foretell.errors import Broken, ForetellError
from foretell.tensors import Arrays, Signature, TensorSpec

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
MOST_TEXT = 16_000


class Order(msgspec.Struct, frozen=True):
    """What to load: the arguments of ``load_backend``."""

    source: str
    backend: str | None
    options: ModelOptions
    log_level: int


class Loaded(msgspec.Struct, frozen=True):
    """What was loaded. ``log`` are the lines that loading wrote, each with its level."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    rows: bool
    facts: dict[str, str]
    log: list[tuple[int, str]]

    @property
    def signature(self) -> Signature:
        return Signature(tuple(self.inputs), tuple(self.outputs), self.rows)


class Refused(msgspec.Struct, frozen=True):
    """One of our own errors; a model may raise one too, with a code of its own."""

    kind: str
    code: str
    message: str
    details: dict[str, Any]


class Raised(msgspec.Struct, frozen=True):
    """Any other exception: its class and text, and where it was raised."""

    kind: str
    message: str
    trace: str


class _Lines(logging.Handler):
    """Keeps what is logged, for the server to write."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()[:MOST_TEXT]))


def main(arguments: Sequence[str]) -> None:
    """``arguments``: the server's process id, and the descriptors of the socket, the memory to read and that to write."""
    server, connection, theirs, ours = map(int, arguments)
    _end_with(server)
    line = Line(socket.socket(fileno=connection), Memory(ours), Memory(theirs))
    try:
        backend = _load(line)
        if backend is not None:
            _serve(line, backend)
    except Lost:
        pass  # the server has gone, or wants no more
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a runtime's threads and a user's exit handlers hold up nothing


def _end_with(server: int) -> None:
    """Die when the server does, and not before: signals to all processes of a terminal or a group are the server's to heed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:
        os._exit(1)


def _load(line: Line) -> Backend | None:
    """The model of the first order; None when it was refused."""
    _, filled = line.hear()
    order = msgspec.json.decode(line.theirs.read(filled), type=Order)
    lines, log = _Lines(), logging.getLogger("foretell")
    log.addHandler(lines)
    log.setLevel(order.log_level)
    log.propagate = False
    try:
        backend = load_backend(order.source, order.options, order.backend)
    except ForetellError as error:
        line.tell(Word.REFUSED, _refused(error))
        return None
    finally:
        log.removeHandler(lines)
        log.propagate = True
    own = backend.signature
    line.tell(Word.LOADED, Loaded(list(own.inputs), list(own.outputs), own.rows, dict(describe(backend)), lines.lines))
    return backend


def _serve(line: Line, backend: Backend) -> None:
    while True:
        _, filled = line.hear()
        try:
            answers = _checked(backend.forward(line.theirs.read_tensors(backend.signature.inputs, filled)), backend.signature)
            size = line.ours.write_tensors(backend.signature.outputs, answers)
        except Lost:
            raise
        except ForetellError as error:
            line.tell(Word.REFUSED, _refused(error))
        except Exception as error:  # noqa: BLE001 - the outermost loop: the server is told, and decides
            line.tell(Word.RAISED, _raised(error))
        else:
            del answers
            line.say(Word.ANSWER, size)


def _checked(answers: Arrays, signature: Signature) -> Arrays:
    """That every output is there in its datatype: only that can cross. Raises Broken ``wrong_output``."""
    for spec in signature.outputs:
        array = answers.get(spec.name)
        if array is None:
            raise Broken("wrong_output", f"the model's signature has an output {spec.name!r}, its answer has none")
        if array.dtype != spec.dtype.numpy:
            raise Broken("wrong_output", f"output {spec.name!r} is declared as {spec.dtype}, the model gave {array.dtype}")
    return answers


def _refused(error: ForetellError) -> Refused:
    return Refused(error.kind.name, error.code, error.message, dict(error.details))


def _raised(error: Exception) -> Raised:
    trace = "".join(traceback.format_exception(error))
    return Raised(type(error).__name__, str(error)[:MOST_TEXT], trace[-MOST_TEXT:])
