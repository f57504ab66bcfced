"""When cron expressions tick, also on the days on which clocks jump."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.jobs.cron import Cron

BERLIN = ZoneInfo("Europe/Berlin")
HALF_PAST_TWO = Cron("30 2 * * *", BERLIN)


def at(text: str) -> float:
    """Unix seconds of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def ticks(cron: Cron, begin: str, end: str) -> list[str]:
    """All ticks after one time up to another, in UTC, found one after the other."""
    found, now = [], at(begin)
    while (after := cron.around(now)[1]) is not None and after <= at(end):
        found.append(datetime.fromtimestamp(after, UTC).strftime("%m-%d %H:%M"))
        now = after
    return found


def test_a_tick_comes_at_its_time_of_day_where_it_is() -> None:
    cron = Cron("0 6 * * MON-FRI", ZoneInfo("Asia/Kolkata"))
    assert ticks(cron, "2026-11-27", "2026-12-02") == ["11-27 00:30", "11-30 00:30", "12-01 00:30"]


def test_the_last_tick_and_the_next_one_lie_around_now() -> None:
    last, after = HALF_PAST_TWO.around(at("2026-01-10 01:30"))
    assert (last, after) == (at("2026-01-10 01:30"), at("2026-01-11 01:30"))
    assert HALF_PAST_TWO.around(at("2026-01-10 01:29:59"))[0] == at("2026-01-09 01:30")


def test_a_time_that_is_left_out_in_spring_ticks_right_after_the_jump() -> None:
    assert ticks(HALF_PAST_TWO, "2026-03-28", "2026-03-31") == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]


def test_a_time_that_comes_twice_in_autumn_ticks_once() -> None:
    assert ticks(HALF_PAST_TWO, "2026-10-24", "2026-10-27") == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_every_quarter_of_an_hour_goes_on_through_a_jump(day: str) -> None:
    begin = datetime.fromisoformat(day)
    found = ticks(Cron("*/15 * * * *", BERLIN), day, f"{begin + timedelta(hours=6)}")
    assert found == [f"{begin + timedelta(minutes=15 * step):%m-%d %H:%M}" for step in range(1, 25)]


def test_a_rare_tick_is_found_years_away() -> None:
    leap = Cron("0 0 29 2 *", ZoneInfo("UTC"))
    assert leap.around(at("2026-01-01")) == (at("2024-02-29"), at("2028-02-29"))


@given(
    expression=st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 */3 * * *", "15 1,2,3 * * SUN", "0 0 1 * *", "59 23 L * *"]),
    now=st.floats(at("2026-03-28"), at("2026-03-31")) | st.floats(at("2026-10-24"), at("2026-10-27")),
    later=st.floats(0, 3 * 3600),
)
@settings(deadline=None)
def test_whoever_looks_at_whatever_moment_sees_the_same_ticks(expression: str, now: float, later: float) -> None:
    cron = Cron(expression, BERLIN)
    last, after = cron.around(now)
    assert last is not None
    assert after is not None
    assert last <= now < after
    assert cron.around(last) == (last, after)
    if now + later < after:
        assert cron.around(now + later) == (last, after)


@pytest.mark.parametrize("expression", ["", "* * * *", "61 * * * *", "0 0 0 * * *", "@daily", "x * * * *"])
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"field|Bad|minute"):
        Cron(expression, BERLIN).around(0)
