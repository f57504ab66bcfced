"""Tests of what shows only after a while: short in `make test`, long with SOAK=1, as `make soak` runs them."""

import os


def rounds(short: int, long: int) -> int:
    """How often to do it."""
    return long if os.environ.get("SOAK") else short
