"""A trial in a process of its own: native code that crashes over a damaged file must not take this process with it."""

import subprocess
import sys

from foretell.errors import Setup

LONGEST_S = 300.0


def rehearse(what: object, function: str, argument: str, cure: str) -> None:
    """Calls ``function``, written ``"package.module:name"``, with ``argument`` in a process of its own.

    Raises Setup ``broken_model`` when that process crashes, or has not ended after ``LONGEST_S``. An exception in it is no
    crash: whoever asks will meet it too, and can tell it better.
    """
    module, _, name = function.partition(":")
    program = f"import sys; sys.path[:] = sys.argv[2:]; from {module} import {name}; {name}(sys.argv[1])"
    command = [sys.executable, "-c", program, argument, *sys.path]
    silent = subprocess.DEVNULL
    try:
        run = subprocess.run(command, stdin=silent, stdout=silent, stderr=silent, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Setup("broken_model", f"{what} was not ready after {LONGEST_S:.0f} s of a trial: {cure}") from error
    if run.returncode < 0:
        raise Setup("broken_model", f"{what} crashes its runtime, with signal {-run.returncode}: {cure}")
