"""What memory a process holds, as the kernel counts it, and giving back what is free."""

import ctypes
import gc
import re
from pathlib import Path

_LINES = re.compile(r"^(?:RssAnon|RssShmem):\s+(\d+) kB", re.M)


def resident_bytes(pid: int | None = None, proc: Path = Path("/proc")) -> int:
    """Memory in use that no file backs, of this process or another: heap, arenas, shared segments; 0 where nobody counts it.

    Code of libraries is left out: it is there once, however many models use it.
    """
    try:
        text = (proc / ("self" if pid is None else str(pid)) / "status").read_text()
    except OSError:
        return 0
    return 1024 * sum(map(int, _LINES.findall(text)))


def trim() -> bool:
    """Give memory that is free, and still held by the C library, back to the system; False where there was none, or no glibc.

    It may take some milliseconds, in which other threads run.
    """
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return give_back is not None and bool(give_back(0))


def set_aside() -> None:
    """Collect what is garbage, and have later collections pass over all that is left.

    A full collection looks at every object that there is, those of large libraries too: nobody is answered meanwhile.
    """
    gc.collect()
    gc.freeze()


def set_aside_more() -> None:
    """Have later collections pass over what has come since, where what there was is set aside. Takes no time."""
    if gc.get_freeze_count():
        gc.freeze()


def tidy() -> None:
    """Give back the memory of what was taken out, also where it was set aside and holds itself."""
    if gc.get_freeze_count():
        gc.unfreeze()
        set_aside()
    trim()


class Growth:
    """What this process came to hold since this was made: ``bytes``. What is free is given back before each look."""

    def __init__(self) -> None:
        trim()
        self._before = resident_bytes()

    @property
    def bytes(self) -> int:
        trim()
        return max(0, resident_bytes() - self._before)
