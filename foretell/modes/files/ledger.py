"""The checkpoint of a run: a folder beside the answers with the run's key and, for each shard that is done, a record.

What happens, whenever it happens: a part of answers gets its name only when it is whole and on the disk, and its record only
after that. So a record whose part is there stands for rows that are safe; any other shard is done again, into the same name.
"""

import contextlib
import fcntl
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from foretell.errors import Setup
from foretell.modes.files.shard import Done, from_json, to_json
from foretell.storage import Place, create, files_of, make_folder, size_of

PLAN = "plan.json"
LOCK = "lock"
INSIDE = "_foretell"
"""The name of the folder within a folder of answers."""
RECORD = re.compile(r"(\d{7})\.done\.json")


class Ledger:
    """The folder of one run. Begun, it is locked against other runs; the key is compared, then what is done is known.

    ``target`` is where the parts of the answers are. ``clear`` is called before a run is begun, to make room for its answers.
    """

    def __init__(self, folder: Place, target: Place, clear: Callable[..., None]) -> None:
        self.folder = folder
        self.target = target
        self.clear_target = clear
        self.done: dict[int, Done] = {}
        self.is_ours = False
        self._stack = contextlib.ExitStack()

    def begin(self, key: Mapping[str, Any], *, restart: bool) -> Self:
        """Take up the run of this key, or begin one. Raises Setup: ``busy_target``, ``changed_run``, ``wrong_target``."""
        try:
            self.is_ours = isinstance(self.folder, Path) and not self.folder.is_dir()
            make_folder(self.folder)
            self._lock()
            found = self.read_key()
            if found is None or restart:
                self.clear_target(restart=restart)
                self.clear()  # what a run left behind that was over, or is not wanted
                self._write(PLAN, msgspec.json.encode(key))
            elif (reason := difference(found, key)) is not None:
                cure = "run it as it was begun, or begin anew with --restart"
                raise Setup("changed_run", f"{self.folder} holds an unfinished run, but {reason}: {cure}")
            self.done = self._read_records()
            self.is_ours = True
        except OSError as error:
            self.close()
            text = f"{self.folder} cannot be written: {error.strerror or error}: choose a folder that you may write to"
            raise Setup("wrong_target", text) from error
        except BaseException:
            self.close()
            raise
        return self

    def clear(self) -> None:
        """Forget all that has been done."""
        (self.folder / PLAN).unlink(missing_ok=True)  # first, so that records whose parts are gone are never believed
        for file in files_of(self.folder):
            if file.name != LOCK:
                file.unlink(missing_ok=True)
        self.done = {}

    def close(self) -> None:
        """Let another run have it; a run that has done nothing leaves nothing, and one that was refused all that was there."""
        if self.is_ours and not self.done and isinstance(self.folder, Path):
            shutil.rmtree(self.folder, ignore_errors=True)
            if self.folder.name == INSIDE:
                with contextlib.suppress(OSError):
                    self.folder.parent.rmdir()  # a folder of answers that got none
        self._stack.close()

    def remove(self) -> None:
        """The run is over: its folder goes."""
        self.clear()
        self.close()

    def _lock(self) -> None:
        if not isinstance(self.folder, Path):
            return
        lock = self._stack.enter_context((self.folder / LOCK).open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.is_ours = False
            raise Setup("busy_target", f"another run is writing here at this moment: {self.folder} is locked") from error

    def read_key(self) -> dict[str, Any] | None:
        """The key of the run that is there, if one is."""
        file = self.folder / PLAN
        if not file.is_file():
            return None
        try:
            found: dict[str, Any] = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        except msgspec.MsgspecError:
            return None
        return found

    def _read_records(self) -> dict[int, Done]:
        records = {}
        for file in files_of(self.folder):
            if RECORD.fullmatch(file.name):
                done = from_json(file.read_bytes(), Done)
                if self._is_whole(done):
                    records[done.index] = done
            elif file.name.endswith(".part"):
                file.unlink(missing_ok=True)
        return records

    def _is_whole(self, done: Done) -> bool:
        """Whether the files that a record stands for are there: a power cut may keep a later name and lose an earlier."""
        try:
            whole = size_of(self.target / done.part) == done.part_bytes
            return whole and (not done.errors or size_of(self.folder / done.errors) > 0)
        except OSError:
            return False

    def _write(self, name: str, data: bytes) -> None:
        with create(self.folder / name) as stream:
            stream.write(data)


def record(folder: Place, done: Done) -> None:
    """Write that a shard is done: the last thing that is done for it. Raises OSError, Unavailable."""
    with create(folder / f"{done.index:07}.done.json", sync_name=False) as stream:
        stream.write(to_json(done))


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """What is not as it was, in words; None if all is."""
    for name, now in wanted.items():
        before = found.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            told = _changed_files(before, now) if name == "input" else _changed_models(before, now) if name == "model" else None
            if told is not None:
                return told
        return f"{name} changed since: it was {_shorten(before)}, now it is {_shorten(now)}"
    return None


def _changed_files(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Of what Inputs.key tells."""
    if before.get("source") != now["source"]:
        return f"input changed since: it was {before.get('source')}, now it is {now['source']}"
    if before.get("files") != now["files"]:
        return f"{now['source']} was changed since: it had {before.get('files')} files, now it has {now['files']}"
    what = "the file" if now["files"] == 1 else "a file of"
    return f"{what} {now['source']} was changed since"


def _changed_models(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Of fingerprints by name."""
    if list(before) != list(now):
        return f"model changed since: it was {', '.join(before)}, now it is {', '.join(now)}"
    return f"the model {', '.join(name for name in now if before[name] != now[name])} was changed since"


def _shorten(value: object) -> str:
    if not value:
        return "nothing"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."
