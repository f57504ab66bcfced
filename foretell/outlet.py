"""Where log lines leave the process: whoever reads them, or does not read them, never holds up the server."""

import os
import select
import socket
import stat
import threading
from collections.abc import Callable
from typing import TextIO

MOST_KEPT_BYTES = 256 * 2**10
_AT_ONCE = 2**16


class Outlet:
    """A stream for a log handler. What a pipe, a socket or a terminal does not take now is kept, and written when it does.

    Above ``MOST_KEPT_BYTES`` lines are dropped, and how many is told in their place. It writes through ``put``, which raises
    BlockingIOError when there is no room, and ``fd`` is what to wait for; ``close`` lets go of what it writes through.
    """

    def __init__(self, fd: int, put: Callable[[bytes], int], close: Callable[[], None]) -> None:
        self.fd = fd
        self.close = close
        self._put = put
        self._lock = threading.Lock()
        self._kept = bytearray()
        self._dropped = 0
        self._drain: threading.Thread | None = None

    def write(self, text: str) -> int:
        """Never waits, never raises: of whom nobody reads any more, the lines are lost."""
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            if self._kept and len(self._kept) + len(data) > MOST_KEPT_BYTES:
                self._dropped += 1
                return len(text)
            if self._dropped:
                data = b"... %d lines of the log were dropped here: nobody read it\n" % self._dropped + data
                self._dropped = 0
            self._kept += data
            if self._drain is None and not self._flush():
                self._drain = threading.Thread(target=self._wait, name="log", daemon=True)
                self._drain.start()
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def _flush(self) -> bool:
        """Write what there is room for; whether that was all."""
        try:
            while self._kept:
                del self._kept[: self._put(bytes(self._kept[:_AT_ONCE]))]
        except BlockingIOError:
            return False
        except OSError:  # whoever read it has gone
            self._kept.clear()
        return True

    def _wait(self) -> None:
        """Until all that is kept is written, in a thread of its own."""
        room = select.poll()
        room.register(self.fd, select.POLLOUT)
        while True:
            room.poll()
            with self._lock:
                if self._flush():
                    self._drain = None
                    return


def outlet(stream: TextIO | None) -> TextIO | Outlet | None:
    """An Outlet for a stream of the process whose other end may stop reading; the stream itself where that cannot be."""
    try:
        fd = -1 if stream is None else stream.fileno()
        kind = os.fstat(fd).st_mode
        if stat.S_ISSOCK(kind):
            connection = socket.socket(fileno=os.dup(fd))
            return Outlet(connection.fileno(), lambda data: connection.send(data, socket.MSG_DONTWAIT), connection.close)
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            # Opened anew it is ours alone: whoever else has the stream is not told that it does not wait.
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            return Outlet(own, lambda data: os.write(own, data), lambda: os.close(own))
    except (OSError, ValueError):  # no descriptor, or none that can be opened anew
        pass
    return stream
