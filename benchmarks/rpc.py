"""How fast one worker answers over gRPC beside a bare grpc.aio server with the same model, in one run.

    python benchmarks/rpc.py [--repeats 5] [--seconds 3]

Needs `h2load` (apt-get install nghttp2-client). Rounds are interleaved, and medians are told: machines are noisy, ratios are
what counts. Each client is a connection of its own with one request at a time.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import numpy as np
from models import SIZES, write_model
from serve import UNITS, cpu, running

from foretell.modes.grpc.stubs.inference_pb2 import ModelInferRequest

HERE = Path(__file__).parent
CLIENTS = (1, 32)
BARE = "bare grpc.aio"
Round = dict[str, list[tuple[float, float]]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3)
    chosen = options.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("this benchmark needs h2load: apt-get install nghttp2-client")
    print(f"foretell {version('foretell')}, onnxruntime {version('onnxruntime')}, grpcio {version('grpcio')}; {cpu()}\n")
    with tempfile.TemporaryDirectory() as folder:
        for name in SIZES:
            measure(name, Path(folder), chosen.repeats, chosen.seconds)


def measure(name: str, folder: Path, repeats: int, seconds: int) -> None:
    """Print one table: both servers at every number of clients, over one model."""
    model = write_model(name, folder)
    body = write_request(SIZES[name][0], folder)
    commands = {
        "foretell": [sys.executable, "-m", "foretell", "serve", str(model), "--name=m", "--http-port=0", "--grpc-port={port}"],
        BARE: [sys.executable, str(HERE / "bare_rpc.py"), str(model), "{port}"],
    }
    rounds: dict[int, Round] = {clients: defaultdict(list) for clients in CLIENTS}
    with ExitStack() as stack:
        ports = {label: stack.enter_context(running(command)) for label, command in commands.items()}
        for _ in range(repeats):
            for clients in CLIENTS:
                for label, port in ports.items():
                    rounds[clients][label].append(load(port, clients, seconds, body))
    for clients, found in rounds.items():
        tell(name, clients, found)


def tell(name: str, clients: int, found: Round) -> None:
    print(f"{name}.onnx, one raw FP32 input, {clients} client{'s' * (clients > 1)}")
    for label, runs in found.items():
        mean_us, rate = (statistics.median(column) for column in zip(*runs, strict=True))
        ratios = [run[1] / bare[1] for run, bare in zip(runs, found[BARE], strict=True)]
        print(
            f"  {label:<14} mean {mean_us:7.0f} µs  {rate:8.0f} requests/s"
            f"  {statistics.median(ratios):5.2f} of bare ({min(ratios):.2f}-{max(ratios):.2f})"
        )
    print()


def load(port: int, clients: int, seconds: int, body: Path) -> tuple[float, float]:
    """Microseconds on average, and requests a second."""
    line = ["h2load", f"-c{clients}", "-m1", f"-D{seconds}", "--warm-up-time=1", "-d", str(body)]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    url = f"http://127.0.0.1:{port}/inference.GRPCInferenceService/ModelInfer"
    text = subprocess.run([*line, *headers, url], capture_output=True, text=True, check=True).stdout
    rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", text)
    mean = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", text)
    answered = re.search(r"\(([\d.]+)\) data", text)  # a refusal has none: its status is in the trailers
    if rate is None or mean is None or answered is None or float(answered[1]) == 0 or ", 0 failed, 0 errored" not in text:
        sys.exit(f"a server did not answer as it should:\n{text}")
    return float(mean[1]) * UNITS[mean[2]], float(rate[1])


def write_request(features: int, folder: Path) -> Path:
    """A message in its frame: not compressed, and its length in four bytes."""
    tensor = ModelInferRequest.InferInputTensor(name="input", datatype="FP32", shape=[1, features])
    raw = np.linspace(0, 1, features, dtype=np.float32).tobytes()
    message = ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[raw]).SerializeToString()
    path = folder / f"infer{features}.bin"
    path.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    return path


if __name__ == "__main__":
    main()
