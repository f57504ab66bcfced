"""How the supervisor and a worker speak: one JSON object a line, over a pair of sockets that nobody else has."""

import json
import socket
from collections.abc import Mapping
from typing import Any

from foretell.codes import CODES
from foretell.errors import ForetellError

Message = dict[str, Any]
SEND_WITHIN_S = 1.0


class Channel:
    """One end of the pair. ``open`` turns False when the other end is gone, or has not read for a second what was sent."""

    def __init__(self, own: socket.socket) -> None:
        self.socket = own
        self.open = True
        self._rest = b""
        own.setblocking(False)

    def send(self, message: Mapping[str, Any]) -> None:
        """Say something, if there is somebody to hear it."""
        if not self.open:
            return
        self.socket.settimeout(SEND_WITHIN_S)
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.open = False
        finally:
            self.socket.setblocking(False)

    def receive(self) -> list[Message]:
        """What has come whole by now; never waits."""
        while self.open:
            try:
                data = self.socket.recv(2**18)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._rest += data
            self.open = bool(data)
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def wait(self) -> Message | None:
        """The next message, however long it takes; None when the other end is gone. For one who awaits just one."""
        self.socket.setblocking(True)
        while b"\n" not in self._rest:
            data = self.socket.recv(2**18)
            if not data:
                return None
            self._rest += data
        self.socket.setblocking(False)
        line, _, self._rest = self._rest.partition(b"\n")
        message: Message = json.loads(line)
        return message

    def close(self) -> None:
        self.open = False
        self.socket.close()


def pack_error(error: ForetellError) -> Message:
    """An error as it goes over a channel."""
    return {"code": error.code, "message": error.message, "details": error.details}


def unpack_error(packed: Mapping[str, Any]) -> ForetellError:
    """The same error on the other side."""
    kind = CODES[packed["code"]][0]
    return kind(packed["code"], packed["message"], **packed["details"])
