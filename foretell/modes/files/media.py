"""Encoded images, one a row, as files of a folder: they are read by the workers."""

from collections.abc import Iterator

import numpy as np

from foretell.errors import Setup
from foretell.modes.files.inputs import takes_media
from foretell.modes.files.rows import BadRow, Chunk, Rows, Source
from foretell.modes.files.selection import selection_of


def read(source: Source) -> "MediaReader":
    """Raises Setup ``missing_column`` for a pipeline that takes no encoded files."""
    if not takes_media(source.signature):
        raise Setup(
            "missing_column",
            f"a folder of images needs a pipeline that takes one image file a row, BYTES, but this one takes "
            f"{', '.join(map(str, source.signature.inputs))}: let it begin with the step image.decode",
        )
    return MediaReader(source)


class MediaReader:
    """The files that a shard lists, in its order."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.spec = source.signature.inputs[0]
        self.selection = selection_of(source)

    def chunks(self) -> Iterator[Chunk]:
        members = () if self.source.shard is None else self.source.shard.members
        first = self.source.first_row
        for start in range(0, len(members), self.source.chunk_rows):
            names = members[start : start + self.source.chunk_rows]
            numbers = np.arange(first + start, first + start + len(names))
            yield Chunk(numbers, names, (start + len(names)) / len(members))

    def decode(self, chunk: Chunk) -> Rows:
        wanted = self.selection.mask(chunk.numbers, self.selection.refuse)
        places = range(len(chunk.raw)) if wanted is None else np.flatnonzero(wanted).tolist()
        names, numbers = [chunk.raw[place] for place in places], chunk.numbers[list(places)]
        bad: dict[int, BadRow] = {}
        files = np.empty(len(names), dtype=np.object_)
        for place, name in enumerate(names):
            try:
                files[place] = (self.source.path / name).read_bytes()
            except OSError as error:
                bad[place] = BadRow(int(numbers[place]), "bad_image", f"the file cannot be read: {error.strerror}", name)
        rows = Rows(numbers, {self.spec.name: files}, ids=names, passed_over=len(chunk.raw) - len(names))
        return rows.without(bad)

    def close(self) -> None:
        return None
