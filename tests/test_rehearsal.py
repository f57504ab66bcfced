"""A trial in a process of its own: a crash is a refusal, an exception is for whoever asks next."""

from pathlib import Path

import pytest

from foretell import rehearsal
from foretell.errors import Setup
from foretell.rehearsal import rehearse

CODE = """
import os, signal
from pathlib import Path

def note(path): Path(path).write_text(str(os.getpid()))
def crash(path): os.kill(os.getpid(), signal.SIGSEGV)
def fail(path): raise ValueError(path)
def hang(path): signal.pause()
"""


@pytest.fixture(autouse=True)
def _functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rehearsed.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_function_is_called_in_another_process(tmp_path: Path) -> None:
    import os

    rehearse("it", "rehearsed:note", str(tmp_path / "pid"), "mend it")
    assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_a_crash_is_a_refusal_with_the_cure() -> None:
    with pytest.raises(Setup, match="it crashes its runtime, with signal 11: mend it") as refused:
        rehearse("it", "rehearsed:crash", "x", "mend it")
    assert refused.value.code == "broken_model"


def test_an_exception_is_no_crash() -> None:
    rehearse("it", "rehearsed:fail", "x", "mend it")


def test_what_does_not_end_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "LONGEST_S", 0.5)
    with pytest.raises(Setup, match="was not ready after"):
        rehearse("it", "rehearsed:hang", "x", "mend it")
