"""What tells one model from another, or from itself after a change: a digest of its files."""

import hashlib
from pathlib import Path

from foretell.errors import Setup
from foretell.repository.model_folder import ModelSource
from foretell.storage import walk


def fingerprint(source: ModelSource) -> str:
    """The SHA-256 of a model's file, or of all files of its folder and of its own pipeline.toml.

    For ``app.py:attribute`` it is the file's own: what it imports is not looked at. Raises Setup ``missing_file``.
    """
    path = Path(source.path.rpartition(":")[0] if ":" in source.path and not Path(source.path).exists() else source.path)
    files = [path] if path.is_file() else [file for file in walk(path) if isinstance(file, Path)]
    if source.in_folder:
        files += [file for file in source.folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    digest = hashlib.sha256()
    try:
        for file in sorted(set(files)):
            with file.open("rb") as opened:
                digest.update(file.name.encode() + b"\0" + hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise Setup("missing_file", f"{error.filename} cannot be read ({error.strerror}): correct its permissions") from error
    return digest.hexdigest()
