"""Tests of what shows only after a while: short in `make test`, long with SOAK=1, as `make soak` runs them."""

import os
from typing import TypeVar

T = TypeVar("T")


def rounds(short: T, long: T) -> T:
    """How often to do it, or with what."""
    return long if os.environ.get("SOAK") else short
