"""What the bar says."""

import io
import sys

import pytest

from foretell.modes.files.progress import Bar, Progress, Tally, choose_progress, describe
from foretell.modes.files.shard import Done


def test_the_bar_tells_rows_and_rate_and_bad_rows() -> None:
    assert describe(Progress(1000, 0, None, 1, 500.0, None)) == "1,000 rows, 500 rows/s"
    assert describe(Progress(999, 1, None, 1, 500.0, None)) == "1,000 rows, 1 of them bad, 500 rows/s"


def test_there_is_no_bar_where_standard_error_is_no_terminal() -> None:
    assert not isinstance(choose_progress(True, Tally()), Bar)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    tally = Tally()
    with choose_progress(True, tally):
        tally.add(Done(0, rows=20, failed=1, share=0.5))
    assert "21 rows" in terminal.getvalue()


def test_the_callback_is_told_what_was_done_before_too_and_how_long_the_rest_takes() -> None:
    now, told = [0.0], list[Progress]()
    tally = Tally(told.append, clock=lambda: now[0])
    tally.resume(Done(0, rows=50, share=0.5))
    assert told[-1].rows_per_s == 0.0
    now[0] = 10.0
    tally.tick(5, 1)
    assert (told[-1].rows, told[-1].failed, told[-1].left_s) == (55, 1, None)
    tally.add(Done(1, rows=24, failed=1, share=0.25))
    assert (told[-1].rows, told[-1].failed, told[-1].done, told[-1].left_s) == (74, 1, 0.75, 10.0)
    assert told[-1].rows_per_s == 2.5
