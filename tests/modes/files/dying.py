"""Runs over files that are killed at a moment that can be chosen."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from foretell.modes.files import predict
from foretell.settings import PredictSettings
from tests.modes.files.models import Only, features, pipeline
from tests.modes.files.test_predict import write_rows

ROWS = 200
SHARD_ROWS = 40
SETTINGS = PredictSettings(batch_rows=16, shard_rows=SHARD_ROWS, workers=2)
ALONE = PredictSettings(batch_rows=16, shard_rows=SHARD_ROWS, workers=1)
MOMENTS = {"os.rename", "os.remove", "os.mkdir", "shutil.rmtree"}


def in_a_child(work: Callable[[], object]) -> int:
    """The exit status of a process that does it: negative if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_and_die(moment: int, work: Callable[[], object]) -> int:
    """Do it in a process that is killed as it touches the disk's names for the ``moment``-th time."""
    count = [0]

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in MOMENTS:
            count[0] += 1
            if count[0] == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    def doomed() -> None:
        sys.addaudithook(watch)
        work()

    return in_a_child(doomed)


def unfinished(tmp_path: Path) -> tuple[Path, Path]:
    """A source, and the target of a run that was killed when two shards were done."""
    source = write_rows(tmp_path / "rows.csv", features(ROWS))
    target = tmp_path / "answers.csv"
    assert run_and_die(7, lambda: predict(pipeline(Only()), source, target, ALONE)) == -signal.SIGKILL
    return source, target
