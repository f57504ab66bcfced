"""What is no row: start to ready, memory, time of --help, installed size. ``python benchmarks/extras.py`` prints them alone."""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution, distributions, requires
from pathlib import Path

from measure import Asker
from models import write_model
from packaging.requirements import Requirement
from servers import OURS, running

RUNTIME = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, {"input": numpy.zeros((1, 30), "f")})
print(open("/proc/self/status").read())
"""
ABOUT = {
    "start_s": "start to the first answer, tiny, one worker: {:.2f} s",
    "memory_1": "resident memory, tiny, one worker: {:.0f} MB",
    "memory_2": "resident memory, tiny, two workers: {:.0f} MB",
    "shared_2": "the same, pages that processes share counted once: {:.0f} MB",
    "runtime": "resident memory of the interpreter with numpy, onnxruntime and the session: {:.0f} MB",
    "help_ms": "foretell --help: {:.0f} ms",
    "installed": "installed, the core and all that it needs: {:.0f} MB",
}


def measure_extras(folder: Path, repeats: int) -> dict[str, float]:
    """Seconds, milliseconds and MB (10^6 bytes), medians. Memory of several processes is their sum."""
    model = write_model("tiny", folder)
    found = {"help_ms": statistics.median(_help_ms() for _ in range(repeats)), "installed": installed_bytes() / 1e6}
    found["runtime"] = statistics.median(_runtime_mb(model) for _ in range(repeats))
    asker, log = Asker("tiny", "json"), Path(tempfile.gettempdir()) / "bench-extras.log"
    starts = []
    for workers in (1, 2):
        memory, shared = [], []
        for _ in range(repeats):
            with running(OURS[0], model, workers, log, asker.answers, grpc=False) as one:
                if one.problem:
                    print(f"not measured: foretell, {workers} workers: {one.problem}\n{log.read_text()}")
                    return {}
                if workers == 1:
                    starts.append(one.started_s)
                asker.measure(one, 32, 0.3)
                memory.append(one.memory_bytes() / 1e6)
                shared.append(one.shared_once_bytes() / 1e6)
        found[f"memory_{workers}"], found[f"shared_{workers}"] = statistics.median(memory), statistics.median(shared)
    return {"start_s": statistics.median(starts), **found}


def _runtime_mb(model: Path) -> float:
    text = subprocess.run([sys.executable, "-c", RUNTIME, str(model)], capture_output=True, text=True, check=True).stdout
    resident = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert resident is not None
    return int(resident[1]) * 1024 / 1e6


def _help_ms() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "foretell", "--help"], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1e3


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


def lines(extras: dict[str, float]) -> list[str]:
    return [text.format(extras[name]) for name, text in ABOUT.items() if name in extras]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print("\n".join(lines(measure_extras(Path(folder), 5))))
