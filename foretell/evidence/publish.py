"""Puts a model and its report in place together, or nothing at all."""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from foretell.errors import Setup
from foretell.evidence.case import Case, Evidence
from foretell.evidence.report import write_report
from foretell.plugins import needs_extra

FORCED = "foretell.forced"
MADE_BY = "foretell.made_by"
"""Keys of a model's own metadata."""


def check_target(source: Path, target: Path) -> None:
    """That a model and its report may be written. Raises Setup ``wrong_target`` before any work."""
    report = report_folder(target)
    if target.is_dir():
        raise Setup("wrong_target", f"{target} is a folder: name a file in it, such as {target / 'model.onnx'}")
    if target.suffix != ".onnx":
        raise Setup("wrong_target", f"{target} is to hold an ONNX model: end its name in .onnx")
    if not target.parent.is_dir():
        raise Setup("wrong_target", f"there is no folder {target.parent}: make it first, mkdir -p {target.parent}")
    if target.exists() and target.resolve() == source.resolve():
        raise Setup("wrong_target", f"{target} is the original: name another file")
    if report.exists() and not report.is_dir():
        raise Setup("wrong_target", f"{report} is a file, and the report needs a folder of that name: remove it")
    if not os.access(target.parent, os.W_OK):
        raise Setup("wrong_target", f"{target.parent} cannot be written to: choose a folder that you may write to")


def report_folder(target: Path) -> Path:
    """``small.onnx`` -> ``small.evidence``."""
    return target.with_suffix(".evidence")


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` for all that is made on the way; it is gone at the end, also when the work is interrupted."""
    place = Path(tempfile.mkdtemp(prefix=f".{target.stem}.", suffix=".tmp", dir=target.parent))
    try:
        with _ended_by_terminate():
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def carry_out(case: Case, target: Path, make: Callable[[Path], Evidence], tell: Callable[[Evidence], None]) -> Evidence:
    """Have ``make`` write a candidate to the path that it is given, and judge it; then put it at ``target``. Closes the case.

    ``tell`` is shown the evidence whatever the verdict. Raises what ``make`` does, and Setup ``not_better``.
    """
    with contextlib.closing(case), staged(target) as place:
        evidence = make(place / target.name)
        tell(evidence)
        publish(place / target.name, target, evidence)
    return evidence


def publish(made: Path, target: Path, evidence: Evidence) -> None:
    """Renames the model at ``made``, in a ``staged`` folder, to ``target``, and its report to ``target``'s ``.evidence``.

    Raises Setup ``not_better`` for a candidate that is not good, unless its evidence was made with ``force``.
    """
    if not evidence.verdict.good and not evidence.wanted.force:
        raise Setup("not_better", f"{target} is not written: {evidence.verdict.sentence()}")
    place = made.parent
    mark(made, evidence)
    report = place / "evidence"
    report.mkdir()
    write_report(report, evidence)
    beside = [file for file in place.iterdir() if file.name.startswith(f"{made.name}.")]  # data files of a large model
    with _uninterrupted():
        _swap(report, report_folder(target), place / "replaced")
        for file in beside:
            os.replace(file, target.parent / file.name)
        os.replace(made, target)


def mark(path: Path, evidence: Evidence) -> None:
    """Notes in the model's own metadata how it was made, and why it was forced if it was."""
    with needs_extra("writing ONNX models", "optimize"):
        import onnx
    model = onnx.load(str(path), load_external_data=False)
    how = ", ".join(f"{name} {value}" for name, value in evidence.how.items())
    notes = {MADE_BY: f"foretell {evidence.verb} of {evidence.source}: {how}"}
    if not evidence.verdict.good:
        notes[FORCED] = evidence.verdict.sentence()
    kept = {each.key: each.value for each in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, **notes})
    path.write_bytes(model.SerializeToString())


def _swap(new: Path, place: Path, old: Path) -> None:
    """A folder in the place of another, which is thrown away with the staging folder."""
    if place.exists():
        os.rename(place, old)
    os.rename(new, place)


@contextlib.contextmanager
def _ended_by_terminate() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does, so that what was staged is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals wait for these few lines: model and report are renamed together."""
    held = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
