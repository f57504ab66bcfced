"""The CPUs that this process may really use: threads of all runtimes are set from this number."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Cpus:
    """CPUs of the affinity mask, and the smallest quota of the control groups: CPUs' worth of time, None for any."""

    affinity: int
    quota: float | None = None

    @property
    def usable(self) -> int:
        """At least 1; of a quota that is no whole number, the next above: its rest would be wasted otherwise."""
        return self.affinity if self.quota is None else max(1, min(self.affinity, math.ceil(self.quota)))

    def each(self, workers: int) -> int:
        """Threads of one forward in each of so many worker processes; 0 workers are this process alone."""
        return max(1, self.usable // max(1, workers))

    def sentence(self, workers: int, threads: int) -> str:
        """One line for the start of a server; ``threads`` as in the settings: 0 is an equal share of the CPUs."""
        quota = "none" if self.quota is None else f"{self.quota:g}"
        each, count = threads or self.each(workers), max(1, workers)
        shares = f"{count} worker{'s' * (count > 1)} x {each} thread{'s' * (each > 1)} a forward"
        return f"CPUs: {self.usable} usable (affinity {self.affinity}, quota {quota}); {shares}"


def count_cpus(cgroups: Path = _CGROUPS, own: Path = _OWN) -> Cpus:
    """Looks at the affinity mask, and at the quotas of this process's control group and of all above it, version 2 and 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Cpus(affinity, min((quota for folder in _groups(cgroups, own) for quota in _quotas(folder)), default=None))


def usable_cpus() -> int:
    """The CPUs that all threads of this process together may use."""
    return count_cpus().usable


def _groups(cgroups: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's group and of those above it; inside a container its own may look like the root."""
    yield from (cgroups, cgroups / "cpu", cgroups / "cpu,cpuacct")
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        inner = PurePosixPath(path.lstrip("/"))
        if ".." not in inner.parts:
            yield from (cgroups / controllers / each for each in (inner, *inner.parents))


def _quotas(folder: Path) -> Iterator[float]:
    """CPUs' worth of time that a group may use: microseconds allowed in each period, by the period."""
    try:
        limit, period = _read(folder / "cpu.max") or _read(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
        if limit != "max" and int(limit) > 0 and int(period) > 0:
            yield int(limit) / int(period)
    except ValueError:
        return


def _read(*files: Path) -> list[str]:
    """The words of some files; none if one is not there."""
    try:
        return " ".join(file.read_text() for file in files).split()
    except OSError:
        return []
