"""What bounds the service of jobs."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """``waiting``: most jobs that wait. ``attempts``: how often one is begun. All times are seconds.

    ``folder`` keeps the jobs, on a disk that must have ``least_free_bytes`` of room; None: they are kept elsewhere.
    """

    waiting: int = 10_000
    attempts: int = 3
    lease_s: float = 15.0
    poll_s: float = 0.5
    keep_s: float = 86_400.0
    folder: Path | None = None
    least_free_bytes: int = 0

    def has_room(self) -> bool:
        """Whether the disk has room for more jobs."""
        if self.folder is None:
            return True
        try:
            disk = os.statvfs(self.folder)
        except OSError:  # gone, or not readable: nothing could be kept there either
            return False
        return disk.f_bavail * disk.f_frsize >= self.least_free_bytes
