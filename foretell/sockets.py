"""Sockets that are bound before anything is loaded, so that a port that is taken is told at once."""

import logging
import os
import socket
import sys
from collections.abc import Iterable

from foretell.cpus import count_cpus
from foretell.errors import Setup
from foretell.settings import Settings

log = logging.getLogger("foretell")
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Setup ``wrong_address``, naming what to change."""
    listening = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        text = f"cannot listen on {host} port {port}: {error.strerror or error}; choose another with --http-port or --host"
        raise Setup("wrong_address", text) from error
    listening.setblocking(False)
    return listening


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps a port for gRPC without listening: each worker listens on it, next to the others.

    Raises Setup ``wrong_address`` when somebody else has it: a port that is shared so would be shared with anybody.
    """
    try:
        with socket.socket(_family(host), socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
            alone.listen(1)
            port = alone.getsockname()[1]
        kept = socket.socket(_family(host), socket.SOCK_STREAM)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((host, port))
    except OSError as error:
        text = f"cannot listen on {host} port {port} for gRPC; choose another with --grpc-port or --host"
        raise Setup("wrong_address", text) from error
    return kept


def tell_ready(settings: Settings, listening: socket.socket, models: Iterable[str], seconds: float) -> None:
    """Print the line that says that all is ready, and where; and log what there is to compute with."""
    log.info("%s", count_cpus().sentence(settings.workers, settings.engine.threads))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listening.getsockname()[1]}"
    where = url if settings.grpc.port < 0 else f"{url}  gRPC {host}:{settings.grpc.port}"
    _print(f"ready  {where}  models: {', '.join(models)}  ({seconds:.2f} s; page for people: {url}/docs)")


def open_standard_streams() -> None:
    """Have something behind descriptors 0, 1 and 2 where whoever started us left them closed.

    Else a socket would get such a number, and what anybody prints would go to a client.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            os.set_inheritable(descriptor, True)


def _print(line: str) -> None:
    """To standard output, if somebody takes it: a server goes on where nobody does."""
    try:
        print(line, flush=True)
    except OSError as error:
        log.info("%s", line)
        log.warning("standard output takes nothing (%s): it is written to no more", error.strerror)
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, sys.stdout.fileno())  # else what is left in its buffer fails again at the end
        os.close(nowhere)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
