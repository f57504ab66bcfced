"""How fast one worker answers over HTTP, both ways in, beside a bare uvicorn app with the same model, in one run.

    python benchmarks/serve.py [--repeats 5] [--seconds 3]

Needs `wrk` (apt-get install wrk). Rounds are interleaved, and medians are told: machines are noisy, ratios are what counts.
"""

import json
import re
import subprocess
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

from models import SIZES, write_model
from rounds import UNITS, cpu, measure, options

HERE = Path(__file__).parent


def main() -> None:
    chosen = options(str(__doc__), "wrk", "wrk")
    print(f"foretell {version('foretell')}, onnxruntime {version('onnxruntime')}, uvicorn {version('uvicorn')}; {cpu()}\n")
    with tempfile.TemporaryDirectory() as folder:
        for name in SIZES:
            model = write_model(name, Path(folder))
            script = write_request(SIZES[name][0], Path(folder))
            serve = [sys.executable, "-m", "foretell", "serve", str(model), "--name", "m", "--http-port"]
            commands = {
                "fast lane": [*serve, "{port}"],
                "ASGI way": [*serve, "{port}", "--no-http-fast-lane"],
                "bare uvicorn ASGI": [sys.executable, str(HERE / "bare.py"), str(model), "{port}"],
            }
            measure(f"{name}.onnx, JSON", commands, partial(load, chosen.seconds, script), chosen.repeats, "p50")


def load(seconds: int, script: Path, port: int, clients: int) -> tuple[float, float]:
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


if __name__ == "__main__":
    main()
