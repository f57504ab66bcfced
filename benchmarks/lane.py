"""What a request costs in the server's own code: the fast lane on transports that only take what is written to them.

    python benchmarks/lane.py [--base COMMIT] [--model tiny] [--clients 32] [--rounds 400]

Prints microseconds of CPU a request, the least of many rounds: no socket, no load generator, little noise. Beside it the
limit of ``limit.py`` on the same transports and, with ``--base``, another commit in turns with this tree.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gate import ROOT, checkout
from models import write_model

TURNS = 5


class Sink(asyncio.Transport):
    """A connection whose client reads all and says nothing."""

    written = b""

    def write(self, data: Any) -> None:
        self.written = data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 7) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...


def main() -> None:
    chosen = options()
    if chosen.only:
        asyncio.run(measure(chosen))
        return
    with ExitStack() as stack:
        model = write_model(chosen.model, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        trees = {"lane": ("lane", ROOT), "limit": ("limit", ROOT)}
        if chosen.base:
            trees["base"] = ("lane", stack.enter_context(checkout(chosen.base)))
        found: dict[str, list[float]] = {label: [] for label in trees}
        for _ in range(TURNS):
            for label, (what, folder) in trees.items():
                found[label].append(ask(what, folder, model, chosen))
    for label, times in found.items():
        print(f"{label:<6} {min(times):6.2f} µs a request ({chosen.model}, {chosen.clients} clients)")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="a commit to compare with")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--only", nargs=2, metavar=("lane|limit", "FILE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def ask(what: str, folder: Path, model: Path, chosen: argparse.Namespace) -> float:
    """One turn, in a process that imports foretell from a folder."""
    line = [sys.executable, __file__, "--only", what, str(model), "--clients", str(chosen.clients)]
    line += ["--rounds", str(chosen.rounds), "--model", chosen.model]
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    return float(subprocess.run(line, capture_output=True, text=True, check=True, env=environ).stdout)


async def measure(chosen: argparse.Namespace) -> None:
    what, path = chosen.only
    open_one = await lane(Path(path)) if what == "lane" else limit(path)
    body = json.dumps(_body(chosen.model)).encode()
    head = (
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    request = head % len(body) + body
    sinks, protocols = [], []
    for _ in range(chosen.clients):
        sinks.append(Sink())
        protocols.append(open_one())
        protocols[-1].connection_made(sinks[-1])
    best = float("inf")
    for _ in range(chosen.rounds):
        began = time.process_time_ns()
        for protocol in protocols:
            protocol.data_received(request)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        best = min(best, time.process_time_ns() - began)
    assert all(sink.written.startswith(b"HTTP/1.1 200 OK\r\n") for sink in sinks), sinks[0].written
    print(best / chosen.clients / 1e3)
    sys.stdout.flush()
    os._exit(0)


async def lane(path: Path) -> Callable[[], Any]:
    """Connections of a server with one model, and all features on."""
    import socket

    from foretell.assemble import Service, find_all
    from foretell.modes.http.server import HttpServer
    from foretell.settings import Settings

    settings = Settings()
    service = Service(settings)
    await service.loader.start(find_all([path], "m"))
    server = HttpServer(service.http, settings, socket.socket())
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    return server._protocol


def limit(path: str) -> Callable[[], Any]:
    sys.argv[1] = path
    from limit import Limit

    return Limit


def _body(model: str) -> dict[str, Any]:
    import math

    import numpy as np
    from models import SHAPES

    shape = [1, *SHAPES[model]]
    values = np.random.default_rng(0).random(math.prod(shape)).round(4).tolist()
    return {"inputs": [{"name": "input", "shape": shape, "datatype": "FP32", "data": values}]}


if __name__ == "__main__":
    main()
