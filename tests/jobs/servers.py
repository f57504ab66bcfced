"""Real database servers on loopback, from the system's packages, each in a folder of its own that goes with it."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.serving import eventually, free_port


def find_program(name: str, *folders: str) -> str | None:
    """A program on the path or in a folder that matches; of several, the newest."""
    found = [str(path) for folder in folders for path in Path("/").glob(f"{folder}/{name}")]
    return shutil.which(name) or max(found, default=None)


POSTGRES_FOLDER = "usr/lib/postgresql/*/bin"


def is_answering(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@dataclass(frozen=True)
class Unprivileged:
    """Who servers run as: PostgreSQL refuses to be run by root."""

    name: str | None

    @property
    def options(self) -> dict[str, object]:
        """For ``subprocess``: nothing for who is unprivileged already."""
        return {"user": self.name, "group": pwd.getpwnam(self.name).pw_gid, "extra_groups": []} if self.name else {}

    @contextmanager
    def folder(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix="foretell-store-"))
        try:
            if self.name:
                shutil.chown(folder, self.name)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def somebody() -> Unprivileged:
    if os.geteuid() != 0:
        return Unprivileged(None)
    names = {entry.pw_name for entry in pwd.getpwall()}
    return Unprivileged("postgres" if "postgres" in names else "nobody")


@contextmanager
def running(command: Sequence[str], port: int, folder: Path, who: Unprivileged) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers on its port, until the end; what it holds is thrown away, so it is told to quit at once."""
    with (folder / "out.log").open("wb") as out:
        server = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, **who.options)  # type: ignore[call-overload]
    try:
        if not eventually(lambda: is_answering(port) or server.poll() is not None, 30) or server.poll() is not None:
            raise RuntimeError((folder / "out.log").read_text(errors="replace"))
        yield server
    finally:
        server.send_signal(signal.SIGQUIT)
        with suppress(subprocess.TimeoutExpired):
            server.wait(5)
        server.kill()
        server.wait()


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a server without databases of ours."""
    program, initdb = find_program("postgres", POSTGRES_FOLDER), find_program("initdb", POSTGRES_FOLDER)
    assert program, "PostgreSQL is not installed"
    assert initdb, "PostgreSQL is not installed whole"
    who, port = somebody(), free_port()
    with who.folder() as folder:
        make = [initdb, "-D", str(folder / "data"), "-U", "foretell", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **who.options)  # type: ignore[call-overload]
        serve = [program, "-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port), "-k", "", "-c", "fsync=off"]
        with running(serve, port, folder, who):
            url = f"postgresql://foretell@127.0.0.1:{port}/postgres"
            assert eventually(lambda: _takes_queries(url), 30)
            yield url


def _takes_queries(url: str) -> bool:
    import psycopg

    with suppress(psycopg.OperationalError), psycopg.connect(url):
        return True
    return False


@contextmanager
def redis_server(*options: str) -> Iterator[str]:
    """The URL of an empty server."""
    program = find_program("redis-server")
    assert program, "Redis is not installed"
    who, port = somebody(), free_port()
    with who.folder() as folder:
        serve = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "", *options]
        with running(serve, port, folder, who):
            yield f"redis://127.0.0.1:{port}/0"
