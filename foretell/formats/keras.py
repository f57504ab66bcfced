"""Reads what a ``.keras`` archive says of itself, before Keras builds from it whatever it names.

Keras's own safe mode was got round several times (CVE-2025-1550, CVE-2025-9906, CVE-2026-1462), each time by classes and
functions that a model has no need of. So only those of Keras itself are let through here, and none that run code or read files.
https://keras.io/guides/serialization_and_saving/
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from foretell.errors import Setup

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MOST_JSON_BYTES = 64 * 2**20
MOST_GROWTH = 100
"""How many times its own size an archive may unpack to."""
_RUN_CODE = {"Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "function", "__lambda__"}
_CURE = (
    "export the model with model.export('folder') or to ONNX, or, if you know who made the file, set `trust = true` in [model]"
)


def read_keras(path: Path, trust: bool) -> dict[str, str]:
    """Format and producer of an archive, for people.

    Raises Setup: ``broken_model`` when something is missing or unpacks to too much; without ``trust`` ``untrusted_model`` when
    it names what is not part of Keras, or what runs code or reads files. Raises ValueError or BadZipFile for no archive.
    """
    with zipfile.ZipFile(path) as archive:
        _check_members(path, archive)
        config, metadata = _json(archive, CONFIG), _json(archive, METADATA)
    if not trust:
        for each in _objects(config):
            _check_object(path, each)
    maker = str(metadata.get("keras_version", "?"))[:40] if isinstance(metadata, dict) else "?"
    return {"format": "Keras 3 archive", "producer": f"keras {maker}"}


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    missing = [name for name in (CONFIG, METADATA, WEIGHTS) if names.count(name) != 1]
    if missing:
        raise Setup("broken_model", f"{path} is not a model saved by Keras 3: it has no {missing[0]}: save it with model.save")
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name for name in names):
        raise Setup("broken_model", f"{path} holds files that would be unpacked elsewhere: save it again with model.save")
    size = sum(member.file_size for member in members)
    if size > MOST_GROWTH * path.stat().st_size + MOST_JSON_BYTES:
        raise Setup("broken_model", f"{path} would unpack to {size} bytes: save it again with model.save")


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > MOST_JSON_BYTES:
        raise ValueError(f"{name} has more than {MOST_JSON_BYTES} bytes")
    return json.loads(archive.read(name))


def _objects(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every object in the configuration, however deep."""
    todo = [config]
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            yield each
            todo.extend(each.values())
        elif isinstance(each, list):
            todo.extend(each)


def _check_object(path: Path, item: Mapping[str, Any]) -> None:
    name, module = str(item.get("class_name", "__")), item.get("module")
    registered = str(item.get("registered_name") or "")
    if name in _RUN_CODE:
        raise _untrusted(path, f"a {name}, which can run any code")
    is_keras = isinstance(module, str) and (module == "keras" or module.startswith("keras."))
    if ">" in registered or not (is_keras or (module is None and name.startswith("__"))):
        raise _untrusted(path, f"{registered or name} of {module or 'the code it was made with'}, which is not part of Keras")
    if isinstance(item.get("vocabulary"), str):
        raise _untrusted(path, "a vocabulary in a file elsewhere")


def _untrusted(path: Path, what: str) -> Setup:
    return Setup("untrusted_model", f"{path} holds {what[:300]}: {_CURE}")
