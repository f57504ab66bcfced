"""What one worker costs before its first request: start to ready, idle memory, installed size, time of --help.

python benchmarks/footprint.py [--repeats 5]
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution, distributions, requires
from pathlib import Path

from models import write_model
from packaging.requirements import Requirement


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=5)
    repeats = options.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        model = write_model("tiny", Path(folder))
        runs = [start(model) for _ in range(repeats)]
    print(f"start to ready      {statistics.median(run[0] for run in runs):.2f} s (process start to the ready line, tiny.onnx)")
    print(f"idle memory         {statistics.median(run[1] for run in runs) / 2**20:.0f} MiB resident, one worker, tiny.onnx")
    print(f"foretell --help     {statistics.median(help_s() for _ in range(repeats)) * 1e3:.0f} ms")
    print(f"installed size      {installed_bytes() / 1e6:.0f} MB, the core and all that it needs")


def start(model: Path) -> tuple[float, int]:
    """Seconds until ready, and resident bytes then."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "foretell", "serve", str(model), "--http-port", "0"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        seconds = time.perf_counter() - began
        status = Path(f"/proc/{server.pid}/status").read_text()
        server.kill()
    assert line.startswith("ready")
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident is not None
    return seconds, int(resident[1]) * 1024


def help_s() -> float:
    began = time.perf_counter()
    subprocess.run([Path(sys.executable).with_name("foretell"), "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def installed_bytes() -> int:
    """Files of foretell's own dependencies, extras left out."""
    known = {found.metadata["Name"].lower().replace("_", "-") for found in distributions()}
    seen: set[str] = set()
    waiting = ["foretell"]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen or name not in known:
            continue
        seen.add(name)
        needs = [Requirement(text) for text in requires(name) or ()]
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    files = [file.locate() for name in seen for file in distribution(name).files or ()]
    return sum(Path(str(file)).stat().st_size for file in files if Path(str(file)).is_file())


if __name__ == "__main__":
    main()
