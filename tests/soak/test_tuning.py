"""``foretell tune`` at full length: on a model whose cost is known, and on one that other runtimes are quicker with."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.soak import rounds

pytestmark = pytest.mark.skipif(not rounds(0, 1), reason="searches of minutes: SOAK=1")
ROOT = Path(__file__).resolve().parents[2]
BOUND_S = 0.06
KNOWN = """
import time
import foretell

@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32"})
def model(arrays):
    rows = len(arrays["x"])
    time.sleep(0.012 + 0.0005 * rows * (1 + rows / 16))
    return {"y": arrays["x"].sum(axis=1)}
"""


def batch_s(rows: int) -> float:
    """What a batch of the known model takes."""
    return 0.012 + 0.0005 * rows * (1 + rows / 16)


def best_rate(most_rows: int) -> float:
    """Of all loads whose answers take two batches at most: one that is under way, and one's own."""
    return max((rows / batch_s(rows) for rows in range(1, most_rows + 1) if 2 * batch_s(rows) <= BOUND_S), default=0.0)


def tune(model: object, data: Path, out: Path, *words: str) -> dict[str, Any]:
    line = [sys.executable, "-m", "foretell", "tune", str(model), "--data", str(data), "-o", str(out), *words]
    subprocess.run(line, check=True)
    found: dict[str, Any] = json.loads((out / "tune.json").read_text())
    return found


@pytest.mark.parametrize("start", [1, 64])
def test_nine_tenths_of_the_best_of_a_known_cost_are_found(start: int, tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "known.py").write_text(KNOWN)
    (tmp_path / "known" / "pipeline.toml").write_text(f'[model]\nfile = "known.py:model"\n[engine]\nmax_batch_rows = {start}\n')
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(0).random((128, 2), dtype=np.float32))
    report = tune(tmp_path / "known", tmp_path / "rows.npz", tmp_path / "out", "--slo", f"p99={BOUND_S}s", "--workers", "1")
    served = report["chosen"] or report["default"]
    print(f"chosen: {served}; {best_rate(served['batch_rows']):.0f} of {best_rate(256):.0f} answers/s by the curve")
    assert best_rate(served["batch_rows"]) >= 0.9 * best_rate(256)


def test_a_network_of_convolutions_is_served_by_what_is_quicker(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    make = "import sys; from pathlib import Path; from models import write_model; write_model('conv', Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", make, str(tmp_path)], cwd=ROOT / "benchmarks", check=True)
    np.savez(tmp_path / "rows.npz", input=np.random.default_rng(0).random((128, 3, 64, 64), dtype=np.float32))
    words = ("--slo", "p99=200ms", "--protocol", "binary", "--workers", "1", "--threads", "1", "--batch-rows", "4,16,64")
    report = tune(tmp_path / "conv.onnx", tmp_path / "rows.npz", tmp_path / "out", *words)
    print(report["sentence"])
    assert report["chosen"] is not None
    assert report["final"]["ratio"] > 1.2
