"""What a process of its own costs a model: one forward there and here, by turns, for inputs and outputs of some sizes.

python benchmarks/isolated.py
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from foretell.backends import Backend, ModelOptions, load_backend
from foretell.tensors import Arrays

SIZES = {"8 bytes": 2, "600 KB": 150_000, "8 MB": 2_000_000}
ROUNDS, CALLS = 30, 20
CODE = """
import foretell

@foretell.model(inputs={"x": "FP32[?]"}, outputs={"y": "FP32[?]"})
def model(arrays):
    return {"y": arrays["x"]}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "app.py"
        source.write_text(CODE)
        here, there = (load_backend(f"{source}:model", ModelOptions(isolated=isolated)) for isolated in (False, True))
        for name, size in SIZES.items():
            rows = {"x": np.ones((1, size), np.float32)}
            rounds = [(timed(here, rows), timed(there, rows)) for _ in range(ROUNDS)]
            own, other = (median(times) * 1e6 for times in zip(*rounds, strict=True))
            print(f"{name:>8} in and out: {own:7.1f} us here, {other:7.1f} us there, {other - own:7.1f} us more")
        there.close()


def timed(model: Backend, rows: Arrays) -> float:
    """Seconds of one call, of some in a row."""
    start = time.perf_counter()
    for _ in range(CALLS):
        model.forward(rows)
    return (time.perf_counter() - start) / CALLS


if __name__ == "__main__":
    main()
