"""A user's own code: what ``app.py:attribute`` names, from a file that is imported under a name of its own."""

import hashlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from foretell.backends import reading_model
from foretell.errors import Setup
from foretell.plugins import did_you_mean

CURE = "correct the code, and try it with `python -c`"


def load_attribute(source: str) -> object:
    """What ``app.py:attribute`` names, from the file imported under a name of its own with its folder importable.

    An unchanged file is imported once. Raises Setup ``unknown_format`` or ``broken_code``.
    """
    path, _, attribute = source.rpartition(":")
    if not path.endswith(".py") or not attribute:
        raise Setup(
            "unknown_format", f"{source} is code, not a model: name what to serve in it, as {source.rstrip(':')}:pipeline"
        )
    module = _import(Path(path))
    if not hasattr(module, attribute):
        known = [name for name in vars(module) if not name.startswith("_")]
        raise Setup("broken_code", f"{path} has no attribute {attribute!r}{did_you_mean(attribute, known)}")
    found: object = getattr(module, attribute)
    return found


class _FromSource(SourceFileLoader):
    """Compiles the file as it stands: cached bytecode is told apart by whole seconds, too few when a model is edited."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _import(path: Path) -> Any:
    file = path.resolve()
    name = _module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(name, file, loader=_FromSource(name, str(file)))
    if spec is None or spec.loader is None:
        raise Setup("unknown_format", f"{path} is not Python code: name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up here while it is being imported
    try:
        with reading_model(path, CURE, "broken_code"):
            spec.loader.exec_module(module)
    except Setup:
        del sys.modules[name]
        raise
    return module


def _module_name(file: Path) -> str:
    """Its own for each file and state of it: ``app.py`` in two folders, or before and after an edit, are not mixed up."""
    state = file.stat()
    digest = hashlib.sha256(f"{file}\0{state.st_mtime_ns}\0{state.st_size}".encode()).hexdigest()
    return f"foretell_user_{digest[:16]}_{file.stem}"
