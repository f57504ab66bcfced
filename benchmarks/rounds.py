"""Servers in turns under the same load: what the benchmarks of serving share. Medians are told, and ratios to the bare one."""

import argparse
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

CLIENTS = (1, 32)
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}
Load = Callable[[int, int], tuple[float, float]]
"""Of a port and a number of clients: microseconds of a request, and requests a second."""


def options(about: str, tool: str, package: str) -> argparse.Namespace:
    """``repeats`` and ``seconds`` from the command line; ends here when the load generator is missing."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    chosen = parser.parse_args()
    if shutil.which(tool) is None:
        sys.exit(f"this benchmark needs {tool}: apt-get install {package}")
    return chosen


def measure(title: str, commands: Mapping[str, list[str]], load: Load, repeats: int, shown: str) -> None:
    """Run every server under every number of clients, in turns, and print a table; the last server is the bare one."""
    rounds: dict[int, dict[str, list[tuple[float, float]]]] = {clients: defaultdict(list) for clients in CLIENTS}
    with ExitStack() as stack:
        ports = {label: stack.enter_context(running(command)) for label, command in commands.items()}
        for _ in range(repeats):
            for clients in CLIENTS:
                for label, port in ports.items():
                    rounds[clients][label].append(load(port, clients))
    for clients, found in rounds.items():
        print(f"{title}, {clients} client{'s' * (clients > 1)}")
        bare = list(found.values())[-1]
        for label, runs in found.items():
            time_us, rate = (statistics.median(column) for column in zip(*runs, strict=True))
            ratios = [run[1] / base[1] for run, base in zip(runs, bare, strict=True)]
            print(
                f"  {label:<18} {shown} {time_us:7.0f} µs  {rate:8.0f} requests/s"
                f"  {statistics.median(ratios):5.2f} of bare ({min(ratios):.2f}-{max(ratios):.2f})"
            )
        print()


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
