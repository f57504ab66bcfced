"""One process with a model in it, from its start to its end."""

import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress

import msgspec

from foretell.backends.isolated.child import Loaded, Order, Raised, Refused
from foretell.backends.isolated.wire import KEPT_BYTES, Line, Lost, Memory, Word
from foretell.codes import CODES
from foretell.errors import ForetellError
from foretell.memory import resident_bytes
from foretell.tensors import Arrays, Signature

log = logging.getLogger("foretell")
_START = "import sys; sys.path[:] = sys.argv[6:]; from foretell.backends.isolated.child import main; main(sys.argv[2:6])"


_CLASSES: dict[str, type[ForetellError]] = {kind.kind.name: kind for kind, _, _ in CODES.values()}


class ModelError(Exception):
    """What the model raised, over there."""


class ModelProcess:
    """Starts a process and has it load a model; ``forward`` is for one thread at a time.

    The thread that makes it must live as long as the process: the system ends the process with that thread.
    """

    signature: Signature

    def __init__(self, order: Order, load_s: float, rehearsal: Arrays | None = None) -> None:
        """``rehearsal`` is what the model computes once before anybody's request, if it can.

        Raises Setup as ``load_backend`` does, and Lost when it cannot be started, or ends before the model is loaded.
        """
        with ExitStack() as undo:
            try:
                self._start(order, undo)
            except OSError as error:
                raise Lost(f"no process can be started ({error.strerror})") from error
            undo.pop_all()
        self.pid = self._process.pid
        try:
            self.line.connection.settimeout(load_s)
            loaded = self._load(order)
            self.signature = loaded.signature
            self.facts = loaded.facts
            if rehearsal is not None:
                with suppress(ForetellError, ModelError):  # not every model takes made-up rows
                    self.forward(rehearsal)
            self.line.connection.settimeout(None)
        except BaseException:
            self._process.kill()
            self._process.wait()
            self.close()
            raise

    def forward(self, inputs: Arrays) -> Arrays:
        """The model's answer. Raises what it raised there: ForetellError, or ModelError; Lost when the process has ended."""
        ours, theirs = self.line.ours, self.line.theirs
        self.line.say(Word.FORWARD, ours.write_tensors(self.signature.inputs, inputs))
        word, filled = self.line.hear()
        if word is not Word.ANSWER:
            raise self._error(word, filled)
        answers = theirs.read_tensors(self.signature.outputs, filled)
        if len(ours.view) > KEPT_BYTES or filled > KEPT_BYTES:
            ours.give_back()
            theirs.give_back()
        return answers

    @property
    def memory_bytes(self) -> int:
        return resident_bytes(self.pid)

    def wait(self) -> int:
        """Wait for the end of the process: its exit code, or less than 0 for a signal's number."""
        return self._process.wait()

    def hang_up(self) -> None:
        """Let it end by itself once it has answered what it has been asked."""
        with suppress(OSError):  # it may have hung up already
            self.line.connection.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Forget the process once it has ended."""
        self.line.close()

    def _start(self, order: Order, undo: ExitStack) -> None:
        ours = Memory.new("foretell-inputs")
        undo.callback(ours.close)
        theirs = Memory.new("foretell-outputs")
        undo.callback(theirs.close)
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        undo.callback(near.close)
        self.line = Line(near, ours, theirs)
        passed = (far.fileno(), ours.descriptor, theirs.descriptor)
        arguments = [order.source, str(os.getpid()), *map(str, passed), *sys.path]
        with far:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, *arguments], stdin=subprocess.DEVNULL, pass_fds=passed
            )

    def _load(self, order: Order) -> Loaded:
        self.line.tell(Word.LOAD, order)
        word, filled = self.line.hear()
        if word is not Word.LOADED:
            raise self._error(word, filled)
        try:
            loaded = msgspec.json.decode(self.line.theirs.read(filled), type=Loaded)
        except msgspec.MsgspecError as error:
            raise Lost(f"it says what cannot be: {error}") from error
        for level, text in loaded.log:
            log.log(level, "%s", text)
        return loaded

    def _error(self, word: Word, filled: int) -> Exception:
        document = self.line.theirs.read(filled)
        if word is Word.REFUSED:
            refused = msgspec.json.decode(document, type=Refused)
            return _CLASSES[refused.kind](refused.code, refused.message, **refused.details)
        raised = msgspec.json.decode(document, type=Raised)
        error = ModelError(f"{raised.kind}: {raised.message}")
        error.add_note(raised.trace)
        return error


def show_end(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
