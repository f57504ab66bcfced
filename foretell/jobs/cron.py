"""When a cron expression ticks, by the clock of a place. Source of the format: Debian's crontab(5), as cronsim reads it.

Where clocks jump forward, a time of day that is left out ticks right after the jump; where they go back, one that comes twice
ticks once. Expressions of every minute or hour go on through both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from foretell.plugins import needs_extra

LOOK_BACK_DAYS = (1, 7, 31, 366, 8 * 366)  # a 29th of February may be eight years away
EXTRA = "schedules"


@dataclass(frozen=True)
class Cron:
    """Five fields and a time zone, such as ``Europe/Berlin``."""

    expression: str
    zone: ZoneInfo

    def around(self, now: float) -> tuple[float | None, float | None]:
        """The last tick up to now and the first one after it, in unix seconds; None where there is none for years.

        Every process finds the same ones: it counts from a noon, far from where clocks jump. Raises ValueError for an
        expression that cannot be read, Setup ``missing_extra``.
        """
        last = after = None
        for days in LOOK_BACK_DAYS:
            last, after = self._between(now, days)
            if last is not None:
                break
        return last, after

    def _between(self, now: float, days: int) -> tuple[float | None, float | None]:
        begin = datetime.fromtimestamp(now, UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=days)
        last = None
        for tick in self._ticks(begin):
            if tick > now:
                return last, tick
            last = tick
        return last, None

    def _ticks(self, begin: datetime) -> Iterator[float]:
        with needs_extra("a schedule by cron", EXTRA):
            from cronsim import CronSim, CronSimError
        if len(self.expression.split()) != 5:
            raise ValueError("it has five fields: minute, hour, day of the month, month, day of the week")
        try:
            found = CronSim(self.expression, begin.astimezone(self.zone))
        except CronSimError as error:
            raise ValueError(str(error)) from error
        return (tick.timestamp() for tick in found)
