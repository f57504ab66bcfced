"""The folder that a search leaves: put together beside its place, and renamed when it is whole."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson

from foretell.errors import Setup
from foretell.optimize.tune.bundle import Bundle, write_toml
from foretell.optimize.tune.report import Report
from foretell.repository.pipeline_file import FILE_NAME
from foretell.repository.versions import is_version

REPORT = "tune.json"
SETTINGS = "settings.toml"


def check_place(folder: Path) -> None:
    """That it is free, or holds what a search left before. Raises Setup ``wrong_target``."""
    if not folder.parent.is_dir():
        raise Setup("wrong_target", f"there is no folder {folder.parent} to write {folder.name} into: make it")
    if is_version(folder.name):
        raise Setup("wrong_target", f"{folder} would be a version of what is around it, by its name: name it otherwise with -o")
    if folder.exists() and not (folder / REPORT).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise Setup("wrong_target", f"{folder} is there, and foretell tune did not write it: name another folder with -o")


def leave(folder: Path, report: Report, bundle: Bundle | None, draw: Callable[[Report, Path], None]) -> None:
    """Write the report, and the model with its pipeline.toml where one was chosen; in place of what a search left before."""
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        if bundle is not None and report.chosen is not None:
            shutil.copytree(bundle.folder, place, dirs_exist_ok=True)
            has_threads = bool((option := report.variant(report.chosen).option) and option.has_threads)
            table = bundle.settled(report.chosen, has_threads=has_threads)
            (place / FILE_NAME).write_text(f"# {report.sentence}\n{write_toml(table)}", encoding="utf-8")
            (place / SETTINGS).write_text(write_toml(settings_of(report)), encoding="utf-8")
        (place / REPORT).write_bytes(orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2))
        (place / "tune.md").write_text(report.to_markdown(), encoding="utf-8")
        draw(report, place / "tune.png")
        place.chmod(0o755 & ~_umask())
        _swap(place, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def settings_of(report: Report) -> Mapping[str, object]:
    """What belongs to the server and not to the model."""
    return {"workers": report.chosen.workers} if report.chosen else {}


def _swap(place: Path, folder: Path) -> None:
    old = place.with_name(f"{place.name}.old.tmp")
    if folder.exists():
        os.replace(folder, old)
    os.replace(place, folder)
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    found = os.umask(0o022)
    os.umask(found)
    return found
