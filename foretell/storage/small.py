"""Reads the small files beside a model: plain files only, none larger than it should be."""

import errno
import os
import stat
from pathlib import Path

from foretell.errors import Setup


def read_small(file: Path, most_bytes: int) -> bytes:
    """The whole of a plain file. Raises OSError for what is none (a pipe would be waited for), ValueError if too large."""
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(file))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(file))
        with open(handle, "rb", closefd=False) as opened:
            data = opened.read(most_bytes + 1)
    finally:
        os.close(handle)
    if len(data) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes")
    return data


def check_inside(path: Path, folder: Path) -> None:
    """That no link and no ``..`` leads out of the folder. Raises Setup ``outside_folder``."""
    try:
        is_inside = "\0" not in str(path) and path.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # links in a circle
        is_inside = False
    if not is_inside:
        raise Setup("outside_folder", f"{path} leads out of {folder}: put a real copy of it there")
