"""What the bar says."""

import io
import sys

import pytest

from foretell.modes.files.progress import Silent, choose_progress, describe


def test_the_bar_tells_rows_and_rate_and_bad_rows() -> None:
    assert describe(1000, 0, 2.0) == "1,000 rows, 500 rows/s"
    assert describe(999, 1, 2.0) == "1,000 rows, 500 rows/s, 1 bad"


def test_there_is_no_bar_where_standard_error_is_no_terminal() -> None:
    assert isinstance(choose_progress(True), Silent)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with choose_progress(True) as bar:
        bar.show(10, 0, None)
        bar.show(20, 1, 0.5)
    assert "21 rows" in terminal.getvalue()
