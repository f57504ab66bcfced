"""Damages model files in many small ways, and has them loaded and run: in a child, as what it looks for is a crash."""

import random
import re
import subprocess
import sys
from pathlib import Path

COUNT = 60
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_INSTEAD = [b"-1", b"0", b"1", b"7", b"999999999", b"2147483648", b"-99999999999999", b"nan", b"1e300", b""]
_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from foretell.backends import load_backend
from foretell.errors import ForetellError

loaded = 0
for file in sorted(Path(sys.argv[1]).iterdir()):
    print(file.name, flush=True)
    try:
        backend = load_backend(str(file))
        spec = backend.signature.inputs[0]
        rows = 20 * np.random.default_rng(1).normal(size=(9, *spec.shape))
        backend.forward({spec.name: rows.astype(spec.dtype.numpy)})
        loaded += 1
    except ForetellError:
        pass
print("end", loaded)
"""


def damage(data: bytes, seed: int) -> bytes:
    """One of five ways: other bytes, an end cut off, a piece cut out, other numbers, a piece twice."""
    dice = random.Random(seed)
    begin = dice.randrange(len(data))
    end = min(len(data), begin + dice.randint(1, 60))
    kind = seed % 5
    if kind == 0:
        changed = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(data))] = dice.randrange(256)
        return bytes(changed)
    if kind == 1:
        return data[:begin]
    if kind == 2:
        return data[:begin] + data[end:]
    if kind == 3:
        for number in dice.sample(list(_NUMBER.finditer(data)), 1):
            data = data[: number.start()] + dice.choice(_INSTEAD) + data[number.end() :]
        return data
    return data[:begin] + data[begin:end] + data[begin:]


def survives(model: Path, folder: Path, count: int = COUNT) -> None:
    """That no damaged form of the model does more than be refused, or answer."""
    damaged = folder / "damaged"
    damaged.mkdir()
    for seed in range(count):
        (damaged / f"{seed:04}{model.suffix}").write_bytes(damage(model.read_bytes(), seed))
    run = subprocess.run([sys.executable, "-c", _PROGRAM, str(damaged)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, f"exit code {run.returncode} at {run.stdout.split()[-1:]}: {run.stderr[-500:]}"
    assert "end" in run.stdout
