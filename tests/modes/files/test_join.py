"""Parts that become one file."""

import gc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foretell.errors import Setup
from foretell.modes.files.join import join


def test_parquet_parts_of_other_columns_are_refused_and_nothing_is_left_open(tmp_path: Path) -> None:
    parts = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for part, name in zip(parts, "ab", strict=True):
        pq.write_table(pa.table({name: [1]}), part)
    with (tmp_path / "out").open("wb") as stream, pytest.raises(Setup, match="change their columns"):
        join("parquet", [(part, 0) for part in parts], stream)
    gc.collect()  # a writer that was left open would complain here, of the stream that is closed
