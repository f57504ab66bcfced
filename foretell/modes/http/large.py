"""Large arrays of JSON numbers, read by simdjson where it is installed (the extra ``simd``): several times as fast."""

import importlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.modes.http.numbers import FP32_SQUARED

LARGE = 32 * 2**10  # bytes: for less, making a parser costs more than it gains


def read_floats(text: bytes) -> NDArray[np.float32] | None:
    """A flat JSON array as FP32, rounded from FP64.

    None for all that is not plainly such an array, for numbers that FP32 may not hold, and where simdjson is not installed.
    """
    parser = _parser()
    if parser is None or text.find(b"[", 1) >= 0:  # simdjson would flatten nested arrays
        return None
    try:
        wide = np.frombuffer(parser().parse(text).as_buffer(of_type="d"), np.float64)
    except (ValueError, TypeError, RuntimeError, AttributeError):
        return None
    return wide.astype(np.float32) if np.vdot(wide, wide) < FP32_SQUARED else None


@cache
def _parser() -> Any:
    try:
        return importlib.import_module("simdjson").Parser
    except ImportError:
        return None
