"""foretell turns a trained model into answers: live, over files, and from Python. See https://pypi.org/project/foretell."""

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# ONNX Runtime's official builds tell its makers of every process and session. It reads this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_PUBLIC = {
    "Pipeline": "foretell.pipeline:Pipeline",
    "Signature": "foretell.tensors:Signature",
    "TensorSpec": "foretell.tensors:TensorSpec",
    "Datatype": "foretell.tensors:Datatype",
    "ForetellError": "foretell.errors:ForetellError",
    "load": "foretell.backends:load_backend",
    "model": "foretell.backends.python:model",
    "open_pipeline": "foretell.repository:open_pipeline",
    "steps": "foretell.steps",
}
__all__ = [*_PUBLIC, "__version__"]  # noqa: PLE0604 - names come from the table above, so that nothing loads early


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'foretell' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded
