"""The CPUs that this process may really use: threads of all runtimes are set from this number."""

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus(quota: Path = _QUOTA) -> int:
    """The smaller of the affinity mask and the cgroup v2 quota (``cpu.max``: microseconds allowed in each period)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit, period = quota.read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if limit == "max" else max(1, min(allowed, math.ceil(int(limit) / int(period))))
