"""The files mode: rows of files through a pipeline into files: each once, in order, in bounded memory, bad rows set aside."""

from foretell.modes.files.executor import Executor, Threads
from foretell.modes.files.forecast import Forecast
from foretell.modes.files.options import Options
from foretell.modes.files.predict import forecast, predict
from foretell.modes.files.progress import Progress
from foretell.modes.files.report import Report
from foretell.modes.files.run import Task, open_runner, run_shard
from foretell.modes.files.sample import read_chunks, read_rows
from foretell.modes.files.several import combine
from foretell.modes.files.shard import Done, Shard, Work, from_json, to_json

__all__ = [
    "Done",
    "Executor",
    "Forecast",
    "Options",
    "Progress",
    "Report",
    "Shard",
    "Task",
    "Threads",
    "Work",
    "combine",
    "forecast",
    "from_json",
    "open_runner",
    "predict",
    "read_chunks",
    "read_rows",
    "run_shard",
    "to_json",
]
