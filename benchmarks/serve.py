"""How fast one worker answers over HTTP, both ways in, beside a bare uvicorn app with the same model, in one run.

    python benchmarks/serve.py [--repeats 5] [--seconds 3]

Needs `wrk` (apt-get install wrk). Rounds are interleaved, and medians are told: machines are noisy, ratios are what counts.
"""

import argparse
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

from models import SIZES, write_model

HERE = Path(__file__).parent
CLIENTS = (1, 32)
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}
BARE = "bare uvicorn ASGI"
Round = dict[str, list[tuple[float, float]]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3)
    chosen = options.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("this benchmark needs wrk: apt-get install wrk")
    print(f"foretell {version('foretell')}, onnxruntime {version('onnxruntime')}, uvicorn {version('uvicorn')}; {cpu()}\n")
    with tempfile.TemporaryDirectory() as folder:
        for name in SIZES:
            measure(name, Path(folder), chosen.repeats, chosen.seconds)


def measure(name: str, folder: Path, repeats: int, seconds: int) -> None:
    """Print one table: every server at every number of clients, over one model."""
    model = write_model(name, folder)
    script = write_request(SIZES[name][0], folder)
    serve = [sys.executable, "-m", "foretell", "serve", str(model), "--name", "m", "--http-port"]
    commands = {
        "fast lane": [*serve, "{port}"],
        "ASGI way": [*serve, "{port}", "--no-http-fast-lane"],
        BARE: [sys.executable, str(HERE / "bare.py"), str(model), "{port}"],
    }
    rounds: dict[int, Round] = {clients: defaultdict(list) for clients in CLIENTS}
    with ExitStack() as stack:
        ports = {label: stack.enter_context(running(command)) for label, command in commands.items()}
        for _ in range(repeats):
            for clients in CLIENTS:
                for label, port in ports.items():
                    rounds[clients][label].append(load(port, clients, seconds, script))
    for clients, found in rounds.items():
        tell(name, clients, found)


def tell(name: str, clients: int, found: Round) -> None:
    print(f"{name}.onnx, JSON, {clients} client{'s' * (clients > 1)}")
    for label, runs in found.items():
        p50_us, rate = (statistics.median(column) for column in zip(*runs, strict=True))
        ratios = [run[1] / bare[1] for run, bare in zip(runs, found[BARE], strict=True)]
        print(
            f"  {label:<18} p50 {p50_us:7.0f} µs  {rate:8.0f} requests/s"
            f"  {statistics.median(ratios):5.2f} of bare ({min(ratios):.2f}-{max(ratios):.2f})"
        )
    print()


def load(port: int, clients: int, seconds: int, script: Path) -> tuple[float, float]:
    """Microseconds at the median, and requests a second."""
    line = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}", "--latency", "-s", str(script)]
    text = subprocess.run(
        [*line, f"http://127.0.0.1:{port}/v2/models/m/infer"], capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"a server did not answer as it should:\n{text}")
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert median is not None
    assert rate is not None
    return float(median[1]) * UNITS[median[2]], float(rate[1])


def write_request(features: int, folder: Path) -> Path:
    tensor = {
        "name": "input",
        "shape": [1, features],
        "datatype": "FP32",
        "data": [round(0.01 * n, 4) for n in range(features)],
    }
    path = folder / f"post{features}.lua"
    body = json.dumps({"inputs": [tensor]})
    path.write_text(f'wrk.method="POST"\nwrk.body=[[{body}]]\nwrk.headers["Content-Type"]="application/json"\n')
    return path


@contextmanager
def running(command: list[str]) -> Iterator[int]:
    """A server on a free port, up to its first answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([part.format(port=port) for part in command], stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            time.sleep(1.0)
            yield port
        finally:
            server.kill()


def cpu() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else "unknown processor"


if __name__ == "__main__":
    main()
