"""A folder of images: one row a file, in the order of their names."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from foretell.errors import Setup
from foretell.modes.files.rows import BadRow, Chunk, Rows, Source
from foretell.tensors import Datatype, TensorSpec

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def read(source: Source) -> "ImageReader":
    """Lists the folder. Raises Setup for a folder without images, and for a pipeline that takes no image files."""
    inputs = source.signature.inputs
    if len(inputs) != 1 or inputs[0].dtype is not Datatype.BYTES or inputs[0].shape:
        raise Setup(
            "missing_column",
            f"a folder of images needs a pipeline that takes one image file a row, BYTES, but this one takes "
            f"{', '.join(map(str, inputs))}: let it begin with the step image.decode",
        )
    files = sorted(path for path in source.path.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise Setup("broken_file", f"{source.path} holds no images: put files of {', '.join(SUFFIXES)} there")
    return ImageReader(source, inputs[0], files)


class ImageReader:
    """Encoded images, read by the workers."""

    def __init__(self, source: Source, spec: TensorSpec, files: Sequence[Path]) -> None:
        self.source = source
        self.spec = spec
        self.files = files

    def chunks(self) -> Iterator[Chunk]:
        first = 0
        left = iter(self.files)
        while files := list(itertools.islice(left, self.source.chunk_rows)):
            numbers = np.arange(first, first + len(files))
            first += len(files)
            yield Chunk(numbers, files, first / len(self.files))

    def decode(self, chunk: Chunk) -> Rows:
        bad: dict[int, BadRow] = {}
        images = np.empty(len(chunk.raw), dtype=np.object_)
        for place, path in enumerate(chunk.raw):
            try:
                images[place] = path.read_bytes()
            except OSError as error:
                bad[place] = BadRow(
                    int(chunk.numbers[place]), "bad_image", f"the file cannot be read: {error.strerror}", path.name
                )
        return Rows(chunk.numbers, {self.spec.name: images}, ids=[path.name for path in chunk.raw]).without(bad)

    def close(self) -> None:
        return None
