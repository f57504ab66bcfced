"""What the supervisor makes of crashes: how long to wait, when to give up, and whether the kernel killed for want of memory."""

import re
from contextlib import suppress
from pathlib import Path

FIRST_WAIT_S = 0.1
MOST_WAIT_S = 10.0
REMEMBERED_S = 60.0
VMSTAT = Path("/proc/vmstat")


def oom_kills() -> int | None:
    """How many processes the kernel has killed for want of memory since it started; None where it does not tell.

    ``oom_kill`` in https://docs.kernel.org/admin-guide/cgroup-v2.html and /proc/vmstat, since Linux 4.13.
    """
    with suppress(OSError):
        match = re.search(r"^oom_kill (\d+)$", VMSTAT.read_text(), re.MULTILINE)
        return int(match[1]) if match else None
    return None


class Crashes:
    """The crashes of one worker and of those that came in its place, within the last minute."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.times: list[float] = []

    def add(self, now: float) -> float | None:
        """Note a crash; gives the seconds to wait before a worker is started again, or None to give it up."""
        self.times = [*(time for time in self.times if now - time < REMEMBERED_S), now]
        if len(self.times) >= self.most:
            return None
        return float(min(FIRST_WAIT_S * 2 ** (len(self.times) - 1), MOST_WAIT_S))
