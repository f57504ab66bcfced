"""When requests are meant to be sent: seconds from the start, in order."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


def poisson(rate: float, seconds: float, seed: int = 0) -> Times:
    """Independent callers: exponential gaps with a mean of ``1 / rate`` seconds."""
    rng = np.random.default_rng(seed)
    expected = rate * seconds
    times = np.cumsum(rng.exponential(1.0 / rate, int(expected + 10.0 * expected**0.5 + 10.0)))
    return times[times < seconds]


def constant(rate: float, seconds: float, seed: int = 0) -> Times:
    """One request every ``1 / rate`` seconds. ``seed`` changes nothing."""
    return np.arange(max(round(rate * seconds), 1)) / rate


ARRIVALS: Mapping[str, Callable[[float, float, int], Times]] = {"poisson": poisson, "constant": constant}
