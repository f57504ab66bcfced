"""How fast one worker answers over gRPC beside a bare grpc.aio server with the same model, in one run.

    python benchmarks/rpc.py [--repeats 5] [--seconds 3]

Needs `h2load` (apt-get install nghttp2-client). Rounds are interleaved, and medians are told: machines are noisy, ratios are
what counts. Each client is a connection of its own with one request at a time.
"""

import re
import subprocess
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from models import SIZES, write_model
from rounds import UNITS, cpu, measure, options

from foretell.modes.grpc.stubs.inference_pb2 import ModelInferRequest

HERE = Path(__file__).parent


def main() -> None:
    chosen = options(str(__doc__), "h2load", "nghttp2-client")
    print(f"foretell {version('foretell')}, onnxruntime {version('onnxruntime')}, grpcio {version('grpcio')}; {cpu()}\n")
    with tempfile.TemporaryDirectory() as folder:
        for name in SIZES:
            model = write_model(name, Path(folder))
            body = write_request(SIZES[name][0], Path(folder))
            serve = [sys.executable, "-m", "foretell", "serve", str(model), "--name=m", "--http-port=0", "--grpc-port={port}"]
            commands = {
                "foretell": serve,
                "bare grpc.aio": [sys.executable, str(HERE / "bare_rpc.py"), str(model), "{port}"],
            }
            load_it = partial(load, chosen.seconds, body)
            measure(f"{name}.onnx, one raw FP32 input", commands, load_it, chosen.repeats, "mean")


def load(seconds: int, body: Path, port: int, clients: int) -> tuple[float, float]:
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
