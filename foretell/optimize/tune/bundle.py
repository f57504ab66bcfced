"""A variant of the model as a folder that ``foretell serve`` takes: its files, its steps, and a pipeline.toml."""

import json
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.backends import recognize
from foretell.errors import Setup
from foretell.formats.onnx import external_locations
from foretell.optimize.tune.space import Candidate
from foretell.repository.checksums import SUMS_FILE
from foretell.repository.files import fingerprint
from foretell.repository.model_folder import ModelSource, is_attribute
from foretell.repository.pipeline_file import FILE_NAME
from foretell.repository.versions import is_version

Table = dict[str, Any]


@dataclass(frozen=True)
class Bundle:
    """``folder`` holds all files but the pipeline.toml; ``table`` is what that says before a candidate is chosen."""

    folder: Path
    table: Table

    @property
    def file(self) -> Path:
        """The model's file; of ``app.py:attribute`` the code, of a model that is a folder that."""
        named: str = self.table["model"].get("file", "")
        return self.folder / (named.rpartition(":")[0] if is_attribute(named) else named)

    def settled(self, candidate: Candidate, *, has_threads: bool = True) -> Table:
        """The table for a candidate."""
        model = {**self.table.get("model", {}), **({"threads": candidate.threads} if has_threads else {})}
        engine = {**self.table.get("engine", {}), "max_batch_rows": candidate.batch_rows, "max_wait_s": candidate.max_wait_s}
        return {**self.table, "model": model, "engine": engine}

    def other(self, place: Path, file: Path, backend: str) -> "Bundle":
        """The same model with another file, for another runtime: its steps are kept, its copy lies at ``place``."""
        shutil.copytree(self.folder, place, ignore=lambda _, names: set(names) & {self.file.name})
        for each in _companions(file):
            shutil.copy2(each, place / each.name)
        kept = {key: value for key, value in self.table["model"].items() if key in ("rows", "pin")}
        return Bundle(place, {**self.table, "model": {**kept, "file": file.name, "backend": backend}})


def gather(source: ModelSource, place: Path, *, trust: bool = False) -> Bundle:
    """A copy of what one version of a model is made from. Raises Setup ``cannot_tune`` for what is no copy's matter."""
    if source.triton is not None:
        raise Setup(
            "cannot_tune", f"{source.folder} has a config.pbtxt, which says itself how it is served: tune its model file"
        )
    place.mkdir(parents=True)
    table: Table = {}
    if source.in_folder:
        table = _copy_folder(source, place)
    else:
        for path in _files(source):
            shutil.copy2(path, place / path.name)
    model = {**table.get("model", {}), **({"trust": True} if trust else {})}
    if not Path(source.path).is_dir():
        model["file"] = Path(source.path).name  # of app.py:attribute, both
    return Bundle(place, {**table, "model": model})


def _copy_folder(source: ModelSource, place: Path) -> Table:
    """The model's own folder, with the files of this version among the others."""
    version = source.folder / source.version
    for each in source.folder.iterdir():
        if not is_version(each.name) and each.name not in (FILE_NAME, SUMS_FILE):
            shutil.copytree(each, place / each.name) if each.is_dir() else shutil.copy2(each, place / each.name)
    if version.is_dir():
        shutil.copytree(version, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SUMS_FILE))
    file = source.folder / FILE_NAME
    table = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {key: value for key, value in table.items() if key != "versions"}


def _files(source: ModelSource) -> list[Path]:
    """What lies beside a model that was named by its own path and is of it."""
    if is_attribute(source.path):
        return [Path(path) for path, *_ in fingerprint(source)]
    return _companions(Path(source.path))


def _companions(file: Path) -> list[Path]:
    """A model's file, with those that hold its weights."""
    named = [each for each in file.parent.iterdir() if each.is_file() and each.name.startswith(f"{file.stem}.")]
    others = [file.with_suffix(".bin")] if recognize(file) == "openvino" else []
    if recognize(file) == "onnx":
        data = [file.parent / location for location in set(external_locations(file.read_bytes()))]
        others = [each for each in data if each.is_file()]
    kept = [each for each in named if each.suffix in (file.suffix, ".data", ".bin", ".json") and each != file]
    return [file, *dict.fromkeys(each for each in (*kept, *others) if each.is_file() and each != file)]


def write_toml(table: Mapping[str, Any]) -> str:
    """Tables of texts, numbers, lists and tables as TOML: what ``pipeline.toml`` holds."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict) and not _is_tables(value)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if _is_tables(value):
            lines += [line for each in value for line in ("", f"[[{_key(key)}]]", *_pairs(each))]
        elif isinstance(value, dict) and value:
            lines += ["", f"[{_key(key)}]", *_pairs(value)]
    return "\n".join(lines).strip() + "\n"


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _text(key)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_pairs(value)) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        return repr(value) if value == value and abs(value) != float("inf") else str(value)  # noqa: PLR0124 - NaN is `nan`
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)  # whole numbers; and dates and times, which TOML writes as Python does


def _text(value: str) -> str:
    """JSON's form, which is TOML's but for the one control character that JSON lets stand, and pairs of surrogates."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
