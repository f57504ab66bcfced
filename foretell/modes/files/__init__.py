"""The files mode: rows of a file through a pipeline into a file, in order, in bounded memory, bad rows set aside."""

from foretell.modes.files.predict import Report, predict
from foretell.modes.files.sample import read_rows

__all__ = ["Report", "predict", "read_rows"]
