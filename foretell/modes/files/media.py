"""Encoded images and sounds, one a row, as files of a folder or members of an archive: they are read by the workers."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.errors import Setup
from foretell.modes.files.archives import Archive
from foretell.modes.files.inputs import takes_media
from foretell.modes.files.nested import even
from foretell.modes.files.rows import BadRow, Chunk, Rows, Source
from foretell.modes.files.selection import refuse_columns, selection_of
from foretell.modes.files.shard import Shard
from foretell.modes.files.sounds import decode_sound, takes_samples

Read = Callable[[int], bytes]
"""The bytes of a member by its place in the shard. Raises OSError."""


def read(source: Source) -> "MediaReader":
    """Raises Setup ``missing_column`` for a pipeline that takes no such files."""
    assert source.shard is not None
    sounds = source.shard.format == "sounds" and takes_samples(source.signature)
    if not sounds and not takes_media(source.signature):
        kind, cure = ("sound", "FP32[?]") if source.shard.format == "sounds" else ("image", "BYTES")
        raise Setup(
            "missing_column",
            f"a folder of {kind}s needs a pipeline that takes one {kind} file a row, {cure}, but this one takes "
            f"{', '.join(map(str, source.signature.inputs))}: let it begin with a step that decodes, such as image.decode",
        )
    refuse_columns(source, "a row is one file, whose name its answer has")
    files = _Folder(source, source.shard) if not source.shard.extents else _Members(source, source.shard)
    return MediaReader(source, source.shard, files, is_sound=sounds)


class MediaReader:
    """The files that a shard lists, in its order; sounds as samples where the pipeline takes those."""

    def __init__(self, source: Source, shard: Shard, files: "_Folder | _Members", *, is_sound: bool) -> None:
        self.source = source
        self.shard = shard
        self.files = files
        self.is_sound = is_sound
        self.spec = source.signature.inputs[0]
        self.selection = selection_of(source)

    def chunks(self) -> Iterator[Chunk]:
        count, size = len(self.shard.members), self.source.chunk_rows
        for start in range(0, count, size):
            places = np.arange(start, min(start + size, count))
            yield Chunk(self.shard.first_row + places, places, (start + len(places)) / count)

    def decode(self, chunk: Chunk) -> Rows:
        wanted = self.selection.mask(chunk.numbers, self.selection.refuse)
        places = chunk.raw if wanted is None else chunk.raw[wanted]
        numbers = self.shard.first_row + places
        names = [self.shard.members[place] for place in places]
        bad: dict[int, BadRow] = {}
        files = np.empty(len(names), dtype=np.object_)
        for at, place in enumerate(places.tolist()):
            try:
                files[at] = self._decode(self.files.read(place))
            except (OSError, ValueError) as error:
                reason = f"the file cannot be read: {getattr(error, 'strerror', None) or error}"
                code = "bad_sound" if self.shard.format == "sounds" else "bad_image"
                bad[at] = BadRow(int(numbers[at]), code, reason, names[at])
        rows = Rows(numbers, {self.spec.name: files}, ids=names, passed_over=len(chunk.raw) - len(names)).without(bad)
        if not self.is_sound or not len(rows):
            return rows
        return Rows(rows.numbers, {self.spec.name: even(rows.arrays[self.spec.name])}, rows.bad, rows.ids, {}, rows.passed_over)

    def close(self) -> None:
        self.files.close()

    def _decode(self, data: bytes) -> Any:
        return decode_sound(data, self.source.sample_rate_hz) if self.is_sound else data


@dataclass(frozen=True)
class _Folder:
    """Files beneath one place."""

    source: Source
    shard: Shard

    def read(self, place: int) -> bytes:
        return (self.source.path / self.shard.members[place]).read_bytes()

    def close(self) -> None:
        return None


class _Members:
    """Members of an archive; threads take turns."""

    def __init__(self, source: Source, shard: Shard) -> None:
        self.shard = shard
        self.archive = Archive(source.path)
        self.lock = threading.Lock()

    def read(self, place: int) -> bytes:
        with self.lock:
            return self.archive.read(*self.shard.extents[place])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.archive.close()
