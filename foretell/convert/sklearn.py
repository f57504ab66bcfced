"""Fitted scikit-learn estimators to ONNX."""

from pathlib import Path

from foretell.backends import ModelOptions
from foretell.backends.sklearn import to_onnx


def convert(source: str, target: Path, options: ModelOptions) -> None:
    target.write_bytes(to_onnx(source, options))
