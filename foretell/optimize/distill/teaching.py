"""How a student is taught, and how large it may be."""

import re
from dataclasses import dataclass
from pathlib import Path

from foretell.errors import Setup
from foretell.evidence.measure import size_on_disk

SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|B|KB|KiB|MB|MiB)?")
UNITS = {None: 1, "B": 1, "KB": 1000, "KiB": 1024, "MB": 10**6, "MiB": 2**20}


@dataclass(frozen=True)
class Distilling:
    """``student``: ``mlp``, ``cnn``, ``trees``, or ``app.py:Student``, a torch module. ``size``: 25% of the teacher's file,
    or 40KB.

    ``temperature`` of the soft answers; ``labels``: the share that labels have in what is learned, if there are any.
    ``between``: how many rows are made up for each that is there. ``hint``: a value inside an ONNX teacher that the student's
    last layer is to match.
    """

    student: str = "mlp"
    size: str = "25%"
    temperature: float = 2.0
    labels: float = 0.1
    epochs: int = 60
    between: int = 3
    hint: str | None = None
    seed: int = 0


DEFAULTS = Distilling()


def bytes_of(text: str, teacher: Path) -> int:
    """The size that a student may have. Raises Setup: ``wrong_setting``; ``larger_student`` when that is the teacher's or
    more."""
    match, whole = SIZE.fullmatch(text.strip()), size_on_disk(teacher)
    if match is None:
        raise Setup("wrong_setting", f"--size {text!r} is no size: write 40KB, or 25% of the teacher's")
    number = float(match["number"])
    size = int(whole * number / 100 if match["unit"] == "%" else number * UNITS[match["unit"]])
    if size >= whole:
        raise larger(f"a student of up to {size:,} bytes", whole)
    return size


def larger(what: str, teacher_bytes: int) -> Setup:
    return Setup("larger_student", f"{what} is no smaller than its teacher of {teacher_bytes:,} bytes: choose a smaller one")
