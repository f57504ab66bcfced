"""One request, one answer: over a connection that is kept, or a new one; within a deadline."""

import contextlib
import os
import ssl
from collections import deque

import httptools

from foretell.client.options import Options
from foretell.client.transport import Connection, Transport
from foretell.client.wire import Answer, Message, Reader, Writer
from foretell.errors import Broken, Late, Setup, Unavailable


class Pool:
    """Connections that wait for their next request, the youngest first. Safe from many threads; a fork starts empty."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.idle: deque[tuple[Connection, float]] = deque()
        self.process = os.getpid()

    def take(self) -> Connection | None:
        """A connection that the server has kept open too."""
        if self.process != os.getpid():
            self.close()
            self.process = os.getpid()
        while self.idle:
            try:
                connection, since = self.idle.pop()
            except IndexError:  # another thread was quicker
                return None
            if self.options.clock() - since < self.options.idle_s and connection.is_usable():
                return connection
            connection.close()
        return None

    def give(self, connection: Connection) -> None:
        self.idle.append((connection, self.options.clock()))

    def close(self) -> None:
        while self.idle:
            with contextlib.suppress(IndexError):
                self.idle.pop()[0].close()


class Stale(Exception):
    """The server hung up on a kept connection before a byte of an answer: it never looked at the request."""


class Exchange:
    """Sends messages and receives their answers."""

    def __init__(self, transport: Transport, writer: Writer, options: Options) -> None:
        self.transport = transport
        self.writer = writer
        self.options = options
        self.pool = Pool(options)

    async def ask(self, message: Message, deadline: float, *, once: bool = False) -> Answer:
        """The answer to one message, whatever its status. ``once`` forbids to send it again, even where that is harmless.

        Raises Unavailable ``unreachable``, Late ``deadline_passed``, Broken ``foreign_answer``, Setup ``untrusted_server``.
        """
        try:
            await self.transport.enter(self._left(deadline))
        except TimeoutError as error:
            raise _late("waiting for a free connection") from error
        try:
            kept = self.pool.take()
            if kept is not None:
                try:
                    return await self._carry(kept, message, deadline, stale=not once)
                except Stale:
                    pass
            return await self._carry(await self._open(deadline), message, deadline)
        finally:
            self.transport.leave()

    async def _open(self, deadline: float) -> Connection:
        try:
            return await self.transport.open(min(self._left(deadline), self.options.connect_timeout_s))
        except ssl.SSLCertVerificationError as error:
            text = f"the server's certificate is not trusted, nothing was sent: {error.verify_message}"
            raise Setup("untrusted_server", text) from error
        except OSError as error:
            raise _unreachable("the server cannot be reached", error) from error

    async def _carry(self, connection: Connection, message: Message, deadline: float, *, stale: bool = False) -> Answer:
        """The answer over one connection, which is kept if it can be. Raises Stale if ``stale`` says that it may be so."""
        reader = Reader(self.options.max_response_bytes)
        reusable = False
        try:
            answer = await self._talk(connection, message, reader, deadline)
            reusable = reader.reusable
        except TimeoutError as error:
            raise _late("waiting for the answer") from error
        except OSError as error:
            if stale and not reader.started:
                raise Stale from error
            raise _unreachable("the server hung up before its whole answer came", error) from error
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise Broken("foreign_answer", f"what came back is not HTTP/1.1 ({error}): check the address") from error
        finally:
            if reusable:
                self.pool.give(connection)
            else:
                connection.close()
        return answer

    async def _talk(self, connection: Connection, message: Message, reader: Reader, deadline: float) -> Answer:
        cut: OSError | None = None
        try:
            await connection.send(self.writer.write(message), self._left(deadline))
        except TimeoutError:
            raise
        except OSError as error:  # a refusal may have come before all was sent
            cut = error
        while reader.answer is None:
            data = await connection.receive(self._left(deadline))
            if data:
                reader.feed(data)
                continue
            reader.feed_end()
            if reader.answer is None:
                raise cut or ConnectionResetError("it said nothing more")
        reader.reusable &= cut is None
        return reader.answer

    def _left(self, deadline: float) -> float:
        """Seconds until the deadline. Raises Late when there are none."""
        left = deadline - self.options.clock()
        if left <= 0:
            raise _late("asking")
        return left


def _late(doing: str) -> Late:
    return Late("deadline_passed", f"the time of the request passed while {doing}: allow more with timeout_s", phase="client")


def _unreachable(what: str, error: OSError) -> Unavailable:
    reason = str(error.strerror or error or type(error).__name__)
    return Unavailable("unreachable", f"{what}: {reason}")
