"""A real server for tests, and a raw connection to it: what is sent and answered is seen byte by byte."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import orjson

MODELS = {
    "double": """
@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]", "sum": "FP32"})
def model(arrays):
    x = arrays["x"]
    if (x == -666).any():
        raise RuntimeError("the secret is in /etc/shadow")
    return {"y": x * 2 + 1, "sum": x.sum(axis=1)}
""",
    "slow": """
@foretell.model(inputs={"seconds": "FP32"}, outputs={"slept": "FP32"})
def model(arrays):
    time.sleep(0.002 + float(arrays["seconds"].max()))
    return {"slept": arrays["seconds"]}
""",
    "text": """
@foretell.model(inputs={"text": "BYTES"}, outputs={"back": "BYTES"})
def model(arrays):
    return {"back": arrays["text"][:]}
""",
}


@dataclass
class Reply:
    """One HTTP answer as it came."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str | None:
        """The stable code of a refusal."""
        code: str | None = self.json().get("code")
        return code

    def comparable(self) -> tuple[int, bytes, list[tuple[bytes, bytes]], bytes]:
        """All of it but the time of day and the random id of a failure."""
        kept = [header for header in self.headers if header[0] != b"date"]
        return self.status, self.reason, kept, re.sub(rb'"error_id":"[0-9a-f]+"', b'"error_id":""', self.body)


class Wire:
    """A raw connection. ``read`` gives the next answer; EOFError when the server hung up before one was whole."""

    def __init__(self, port: int, *, timeout_s: float = 10.0, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout_s)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes) -> Reply:
        self.send(data)
        return self.read(bodiless=data.startswith(b"HEAD "))

    def read(self, *, bodiless: bool = False) -> Reply:
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        line, *rest = head.split(b"\r\n")
        headers = [(name, value) for name, _, value in (each.partition(b": ") for each in rest)]
        length = 0 if bodiless else int(dict(headers).get(b"content-length", b"0"))
        while len(self.buffer) < length:
            self._more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        _, status, reason = line.split(b" ", 2)
        return Reply(int(status), reason, headers, body)

    def closes(self) -> bool:
        """Whether the server hangs up now, with nothing more to say."""
        try:
            return not self.buffer and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        data = self.socket.recv(2**20)
        if not data:
            raise EOFError("the server hung up")
        self.buffer += data


@dataclass
class Served:
    """A running server."""

    process: "subprocess.Popen[str]"
    port: int
    log: Path
    ready: str = ""

    def wire(self, **options: Any) -> Wire:
        return Wire(self.port, **options)

    def ask(self, data: bytes, **options: Any) -> Reply:
        """One request on a connection of its own."""
        with self.wire(**options) as wire:
            return wire.ask(data)

    def get(self, path: str) -> Reply:
        return self.ask(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())

    @property
    def grpc(self) -> str:
        """The address of its gRPC door, as the line says that it is ready."""
        match = re.search(r"gRPC (\S+)", self.ready)
        assert match is not None, self.ready
        return match[1]

    def count(self, model: str, outcome: str) -> float:
        """A model's requests that ended so, by the metrics."""
        text = self.get("/metrics").body.decode()
        match = re.search(rf'^foretell_requests_total\{{model="{model}",outcome="{outcome}",version="1"\}} (\S+)', text, re.M)
        return float(match[1]) if match else 0.0

    @property
    def workers(self) -> list[int]:
        """The pids of its worker processes; its own when it serves alone."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children if b"foretell.workers.worker" in command_of(int(child))] or [self.process.pid]

    @property
    def resident_bytes(self) -> int:
        """Memory of the processes that serve which is in use and not shared with files."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.workers]
        return sum(int(size) * 1024 for text in texts for size in re.findall(r"RssAnon:\s+(\d+) kB", text))


def command_of(pid: int) -> bytes:
    """A process's command line; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def post(path: str, body: bytes | str, *headers: str, kind: str | None = "application/json", verb: str = "POST") -> bytes:
    """A request as a client sends it."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"{verb} {path} HTTP/1.1", "host: localhost", f"content-length: {len(content)}", *headers]
    if kind is not None:
        lines.append(f"content-type: {kind}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def infer(model: str, name: str, data: object, *headers: str, shape: list[int], datatype: str = "FP32", **more: Any) -> bytes:
    """An infer request with one input."""
    body = {"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}], **more}
    return post(f"/v2/models/{model}/infer", orjson.dumps(body), *headers)


def binary(model: str, name: str, raw: bytes, *headers: str, shape: list[int], datatype: str = "FP32", **more: Any) -> bytes:
    """An infer request with one input, whose elements follow the JSON; its outputs come so too, unless ``more`` says other."""
    tensor = {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    text = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}, **more})
    length = f"inference-header-content-length: {len(text)}"
    return post(f"/v2/models/{model}/infer", text + raw, length, *headers, kind="application/octet-stream")


def double(*headers: str, x: float = 1.0, **more: Any) -> bytes:
    """A good request to the quick model: the answer to ``x`` is ``2 x + 1`` and ``x + 2``."""
    return infer("double", "x", [x, 2.0], *headers, shape=[1, 2], **more)


def sleep(seconds: float, *headers: str, **more: Any) -> bytes:
    """A good request to the model that sleeps in its thread."""
    return infer("slow", "seconds", [seconds], *headers, shape=[1], **more)


@contextmanager
def serving(
    folder: Path,
    *flags: str,
    models: Mapping[str, str] = MODELS,
    paths: Sequence[str | Path] = (),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Served]:
    """A server of its own process over ``models``, whose code is written to ``folder``, and over what is at ``paths``."""
    sources = [str(path) for path in paths]
    for name, code in models.items():
        (folder / f"{name}.py").write_text("import time\nimport foretell\n" + code)
        sources.append(f"{folder / name}.py:model")
    log = folder / "log.txt"
    line = [sys.executable, "-m", "foretell", "serve", *sources, "--http-port", "0", *flags]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **environ, "PYTHONUNBUFFERED": "1"}
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            match = re.search(r"http://127\.0\.0\.1:(\d+)", ready)
            assert match is not None, f"not ready: {ready!r} {log.read_text()}"
            yield Served(process, int(match[1]), log, ready)
        finally:
            _kill(process)


def _kill(process: "subprocess.Popen[str]") -> None:
    """The server and its workers, which would first finish what they have."""
    if process.poll() is not None:
        return
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def eventually(condition: Any, within_s: float = 20.0) -> bool:
    """Whether a condition outside this process holds within the time; asked again and again."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)  # another process is waited for: there is no clock to turn
    return True
