"""The rows that failed in another run, as its file of errors tells them."""

from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from foretell.errors import Setup
from foretell.storage import find_place


class Told(msgspec.Struct):
    """A line of a file of errors, as far as it names a row."""

    row: int
    id: str = ""


@lru_cache(maxsize=4)
def failed_rows(errors: str, file: str) -> NDArray[np.int64]:
    """The numbers of the rows of one file that failed; ``file`` is empty where rows are numbered through all.

    Raises Setup ``missing_file`` or ``broken_file``.
    """
    try:
        with find_place(errors).open("rb") as stream:
            told = [msgspec.json.decode(line, type=Told) for line in stream]
    except FileNotFoundError as error:
        raise Setup("missing_file", f"there is no file of errors at {errors}: no row failed, or it was removed") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise Setup("broken_file", f"{errors} is no file of errors: {error}") from error
    return np.array([each.row for each in told if not file or each.id in ("", file)], dtype=np.int64)
