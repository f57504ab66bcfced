"""The checkpoint of a run: a folder beside the answers with the run's key and, for each shard that is done, a record.

What happens, whenever it happens: a part of answers gets its name only when it is whole and on the disk, and its record only
after that. So a record whose part is there stands for rows that are safe; any other shard is done again, into the same name.
Once all answers are where they belong, one file stands for all records and goes after them: tidying up is never done anew.
"""

import contextlib
import fcntl
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Self

import msgspec

from foretell.errors import Setup
from foretell.modes.files.shard import Done, from_json, to_json
from foretell.storage import Place, create, files_of, make_folder, size_of, walk

PLAN = "plan.json"
OVER = "over.json"
"""All records in one, written when the answers are where they belong: from then on there is only tidying left."""
LOCK = "lock"
INSIDE = "_foretell"
"""The name of the folder within a folder of answers."""
RECORD = re.compile(r"(\d{7})\.done\.json")
PART = re.compile(r"(?:part-)?(\d{7})\.\w+")
SCRATCH = re.compile(r"\..+\.[0-9a-f]{8}\.part")
"""A file that was not written to its end."""
OWN = re.compile(
    rf"{re.escape(PLAN)}|{re.escape(OVER)}|\d{{7}}\.done\.json|\d{{7}}\.errors\.ndjson|\d{{7}}\.\w+|{SCRATCH.pattern}"
)
"""All names that a run gives in its folder but the lock's: no other file there is ever touched."""
CHECKED_BYTES = 2**20


class Ledger:
    """The folder of one run. Begun, it is locked against other runs; the key is compared, then what is done is known.

    ``target`` is where the parts of the answers are. ``clear`` is called before a run is begun, to make room for its answers.
    ``stands``: whether the answers of those shards are still where they were put in the end.
    """

    def __init__(
        self, folder: Place, target: Place, clear: Callable[..., None], stands: Callable[[Iterable[Done]], bool]
    ) -> None:
        self.folder = folder
        self.target = target
        self.clear_target = clear
        self.stands = stands
        self.done: dict[int, Done] = {}
        self.is_over = self.is_ours = self._is_begun = False
        self._stack = contextlib.ExitStack()

    def begin(self, key: Mapping[str, Any], *, restart: bool) -> Self:
        """Take up the run of this key, or begin one. Raises Setup: ``busy_target``, ``changed_run``, ``wrong_target``."""
        self._check_folder()
        try:
            self.is_ours = isinstance(self.folder, Path) and not self.folder.is_dir()
            make_folder(self.folder)
            self._lock()
            found = self.read_key()
            if found is None or restart:
                self.clear_target(restart=restart)
                self.clear()  # what a run left behind that was over, or is not wanted
                self._write(PLAN, msgspec.json.encode(key))
                self._is_begun = True
            elif (reason := difference(found, key)) is not None:
                cure = "run it as it was begun, or begin anew with --restart"
                raise Setup("changed_run", f"{self.folder} holds an unfinished run, but {reason}: {cure}")
            self.done = self._read_records()
        except OSError as error:
            self.close()
            text = f"{self.folder} cannot be written: {error.strerror or error}: choose a folder that you may write to"
            raise Setup("wrong_target", text) from error
        except BaseException:
            self.close()
            raise
        return self

    def has(self, index: int, part: str) -> bool:
        """Whether a shard is done and its answers are where they have to be; if they are not, its record is forgotten."""
        if index in self.done and self.done[index].part == part:
            return True
        self.done.pop(index, None)
        return False

    def clear(self) -> None:
        """Forget all that has been done."""
        for file in files_of(self.folder):
            if OWN.fullmatch(file.name) and file.name not in {PLAN, OVER}:
                file.unlink(missing_ok=True)
        if (over := self.folder / OVER).is_file():
            over.unlink()
        (self.folder / PLAN).unlink(missing_ok=True)  # last, so that a run killed here is gone on with, not refused
        self.done = {}

    def close(self) -> None:
        """Let another run have it. What this run made goes if it has done nothing; what others left stays as it is."""
        with contextlib.suppress(OSError):
            if self.is_ours and (not self._is_begun or self._is_blank()):
                self._remove_folder()
        self._stack.close()

    def end(self) -> None:
        """All answers are where they belong: a run that is killed while it tidies up computes nothing again."""
        self._write(OVER, msgspec.json.encode(list(self.done.values())))

    def remove(self) -> None:
        """The run is over: its folder goes."""
        self.clear()
        with contextlib.suppress(OSError):
            self._remove_folder()
        self.is_ours = False
        self._stack.close()

    def _remove_folder(self) -> None:
        """Raises OSError if files of others are in it, which stay."""
        if not isinstance(self.folder, Path):
            return
        self.clear()
        (self.folder / LOCK).unlink(missing_ok=True)
        self.folder.rmdir()
        if self.folder.name == INSIDE:
            self.folder.parent.rmdir()  # a folder of answers that got none

    def _is_blank(self) -> bool:
        """Whether the disk has no answers of this run, not even such as no one was told of."""
        here = any(RECORD.fullmatch(file.name) or PART.fullmatch(file.name) for file in files_of(self.folder))
        there = self.target != self.folder and any(PART.fullmatch(file.name) for file in walk(self.target))
        return not (here or there)

    def _check_folder(self) -> None:
        """Raises Setup ``wrong_target`` for a link, which would have files removed elsewhere, and for what is no folder."""
        if not isinstance(self.folder, Path) or not os.path.lexists(self.folder):
            return
        if self.folder.is_symlink() or not self.folder.is_dir():
            what = "a link" if self.folder.is_symlink() else "no folder"
            text = f"{self.folder}, where what has been done is kept, is {what}: move it away, or name another -o"
            raise Setup("wrong_target", text)

    def _lock(self) -> None:
        if not isinstance(self.folder, Path):
            return
        lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        self._stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.is_ours = False
            raise Setup("busy_target", f"another run is writing here at this moment: {self.folder} is locked") from error

    def read_key(self) -> dict[str, Any] | None:
        """The key of the run that is there, if one is."""
        file = self.folder / PLAN
        if isinstance(file, Path) and file.is_dir():
            raise Setup("wrong_target", f"{file} is a folder, where a run writes what it is: move it away, or name another -o")
        try:
            data = file.read_bytes() if file.is_file() else b""
            found: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        except OSError as error:
            raise Setup("wrong_target", f"{file} cannot be read: {error.strerror or error}: name another -o") from error
        return found

    def _read_records(self) -> dict[int, Done]:
        if (over := self._read_over()) is not None:
            self.is_over = True
            return over
        records = {}
        for file in files_of(self.folder):
            if found := RECORD.fullmatch(file.name):
                done = _read_record(file)
                if done is not None and done.index == int(found[1]) and self._is_whole(done):
                    records[done.index] = done
            elif SCRATCH.fullmatch(file.name):
                file.unlink(missing_ok=True)
        return records

    def _read_over(self) -> dict[int, Done] | None:
        """All records of a run that has only tidying left; None for any other."""
        try:
            file = self.folder / OVER
            told = msgspec.json.decode(file.read_bytes(), type=list[Done]) if file.is_file() else None
            return {done.index: done for done in told} if told is not None and self.stands(told) else None
        except (msgspec.MsgspecError, OSError, ValueError):  # a name with a NUL is a ValueError
            return None

    def _is_whole(self, done: Done) -> bool:
        """Whether the files that a record stands for are there, by their own names, as they were written.

        A power cut may keep a later name and lose an earlier. In an object store the size has to do: its files are not
        fetched to be looked at.
        """
        path = PurePosixPath(done.part)
        name = PART.fullmatch(path.name)
        if name is None or int(name[1]) != done.index or path.is_absolute() or ".." in path.parts:
            return False
        if done.errors not in ("", errors_name(done.index)):
            return False
        try:
            whole = self._is_as_written(self.target / done.part, done)
            return whole and (not done.errors or size_of(self.folder / done.errors) > 0)
        except (OSError, ValueError):
            return False

    def _is_as_written(self, part: Place, done: Done) -> bool:
        if size_of(part) != done.part_bytes:
            return False
        if not isinstance(part, Path):
            return True
        with part.open("rb") as stream:
            return checksum(stream) == done.checksum

    def _write(self, name: str, data: bytes) -> None:
        with create(self.folder / name) as stream:
            stream.write(data)


def record(folder: Place, done: Done) -> None:
    """Write that a shard is done: the last thing that is done for it. Raises OSError, Unavailable."""
    with create(folder / f"{done.index:07}.done.json", sync_name=False) as stream:
        stream.write(to_json(done))


def errors_name(index: int) -> str:
    """The file of a shard's bad rows."""
    return f"{index:07}.errors.ndjson"


def checksum(stream: BinaryIO) -> int:
    """The CRC-32 of the whole of a file that is open."""
    found = 0
    stream.seek(0)
    while block := stream.read(CHECKED_BYTES):
        found = zlib.crc32(block, found)
    return found


def _read_record(file: Place) -> Done | None:
    """None for one that was cut short or is no record: its shard is done again."""
    try:
        return from_json(file.read_bytes(), Done)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


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
