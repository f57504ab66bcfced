"""The energy that the processor has used, where Linux tells it: https://docs.kernel.org/power/powercap/powercap.html."""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Meter:
    """The counters of all packages (RAPL). ``zones`` is empty where there are none, or where they may not be read."""

    zones: tuple[Path, ...]

    def read_j(self) -> tuple[float, ...] | None:
        """Joules of each zone since some moment in the past; None if they cannot be told."""
        try:
            found = tuple(int((zone / "energy_uj").read_text()) / 1e6 for zone in self.zones)
        except (OSError, ValueError):
            return None
        return found or None

    def between(self, before: tuple[float, ...] | None, after: tuple[float, ...] | None) -> float | None:
        """Joules from one reading to a later one; a counter that began anew in between counts on from its largest value."""
        if before is None or after is None:
            return None
        return sum(
            end - start if end >= start else end - start + _range_j(zone)
            for zone, start, end in zip(self.zones, before, after, strict=True)
        )


def find_meter(folder: Path = _FOLDER) -> Meter:
    """The packages below ``folder``: ``intel-rapl:0``, not their parts ``intel-rapl:0:0``; AMD's have the same names."""
    zones = sorted(zone for zone in folder.glob("intel-rapl:*") if zone.name.count(":") == 1)
    return Meter(tuple(zones))


def _range_j(zone: Path) -> float:
    try:
        return int((zone / "max_energy_range_uj").read_text()) / 1e6
    except (OSError, ValueError):
        return 0.0
