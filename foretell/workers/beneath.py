"""Where the process of a job over files begins: it gives way to all else before it loads anything, and ends with the server.

python -m foretell.workers.beneath, with one JSON object on standard input, which stays open: see ``foretell.jobs.child``.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading

NICE = 19
_KILL_WHEN_PARENT_ENDS = 1  # PR_SET_PDEATHSIG, https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html


def main() -> int:
    """Do the job of the order that is read; what becomes of it is said where standard output was."""
    yield_to_all()
    end_with_parent()
    order = read_order()
    if not order:
        return 1
    _end_with_input()
    told = os.dup(1)
    os.dup2(2, 1)  # what a model prints is for the log

    from foretell.workers.files_job import Voice, do

    do(order, Voice(told))
    return 0


def yield_to_all() -> None:
    """Run only where nothing else wants to: https://man7.org/linux/man-pages/man7/sched.7.html (SCHED_IDLE).

    And on half of the CPUs at most: what the kernel does for us, such as writing a file, no other task interrupts.
    """
    os.nice(NICE - os.nice(0))
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it: then the niceness has to do
            cpus = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, cpus[len(cpus) // 2 :])
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):  # the same
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def end_with_parent() -> None:
    """Be killed when the server's process ends, however it does; and be asked to end as any program is."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal tells all at once: the server decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that what is half-written is removed
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_KILL_WHEN_PARENT_ENDS, signal.SIGKILL, 0, 0, 0)


def read_order() -> bytes:
    """The first line of standard input, read without a buffer that another thread could hold; nothing when there is none."""
    text = b""
    while not text.endswith(b"\n"):
        more = os.read(0, 2**16)
        if not more:
            return b""
        text += more
    return text


def _end_with_input() -> None:
    """The same where no such call is, and where the parent ended before it was made."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
