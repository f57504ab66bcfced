"""The files mode: rows of a file through a pipeline into a file, in order, in bounded memory, bad rows set aside."""

from foretell.modes.files.predict import Report, predict

__all__ = ["Report", "predict"]
