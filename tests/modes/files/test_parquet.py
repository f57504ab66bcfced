"""Typed columns: what fits is converted, what does not is refused before anything is read."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from foretell.errors import Setup
from foretell.modes.files import parquet
from foretell.modes.files.rows import Rows, Source
from foretell.tensors import Datatype, Signature, TensorSpec
from tests.modes.files.models import Mirror, answers_of, sheet_of


def read(tmp_path: Path, column: Any, spec: TensorSpec) -> Rows:
    path = tmp_path / "rows.parquet"
    pa.parquet.write_table(pa.table({"a": column}), path)
    reader = parquet.read(Source(path, Signature((spec,), ()), 16))
    try:
        (chunk,) = reader.chunks()
        return reader.decode(chunk)
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("column", "dtype", "expected"),
    [
        (pa.array([1, None, 3]), Datatype.FP32, [1, np.nan, 3]),
        (pa.array([True, None]), Datatype.FP32, [1, np.nan]),
        (pa.array([Decimal("1.25"), None]), Datatype.FP64, [1.25, np.nan]),
        (pa.array([None, None]), Datatype.FP32, [np.nan, np.nan]),
        (pa.array([1.5, 2.5], pa.float16()), Datatype.FP16, [1.5, 2.5]),
        (pa.array([True, False]), Datatype.INT64, [1, 0]),
        (pa.array([2**64 - 1], pa.uint64()), Datatype.UINT64, [2**64 - 1]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), Datatype.BYTES, [b"x", b"y", b"x"]),
        (pa.array([b"\xff"]), Datatype.BYTES, [b"\xff"]),
    ],
)
def test_a_column_becomes_what_the_model_takes(tmp_path: Path, column: Any, dtype: Datatype, expected: list[Any]) -> None:
    rows = read(tmp_path, column, TensorSpec("a", dtype))
    np.testing.assert_array_equal(rows.arrays["a"], expected)


@pytest.mark.parametrize(("column", "dtype"), [(pa.array([1, None]), Datatype.INT64), (pa.array(["x", None]), Datatype.BYTES)])
def test_null_is_a_bad_row_where_no_float_is_taken(tmp_path: Path, column: Any, dtype: Datatype) -> None:
    rows = read(tmp_path, column, TensorSpec("a", dtype))
    assert (rows.numbers.tolist(), [bad.row for bad in rows.bad]) == ([0], [1])


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float64(), 2), pa.large_list(pa.float64())])
def test_lists_become_tensors(tmp_path: Path, kind: Any) -> None:
    rows = read(tmp_path, pa.array([[1, 2], [3, None]], kind), TensorSpec("a", Datatype.FP32, (2,)))
    np.testing.assert_array_equal(rows.arrays["a"], [[1, 2], [3, np.nan]])


def test_nested_and_flat_lists_fill_a_matrix(tmp_path: Path) -> None:
    spec = TensorSpec("a", Datatype.INT64, (2, 2))
    nested = read(tmp_path, pa.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]), spec)
    flat = read(tmp_path, pa.array([[1, 2, 3, 4], [5, 6, 7, 8]]), spec)
    np.testing.assert_array_equal(nested.arrays["a"], flat.arrays["a"])


def test_a_null_list_is_a_bad_row(tmp_path: Path) -> None:
    rows = read(tmp_path, pa.array([[1.0, 2.0], None]), TensorSpec("a", Datatype.FP32, (2,)))
    assert (rows.numbers.tolist(), [bad.row for bad in rows.bad]) == ([0], [1])


@pytest.mark.parametrize(("column", "dtype"), [(pa.array(["x"]), Datatype.FP32), (pa.array([1]), Datatype.BYTES)])
def test_a_column_of_another_kind_is_refused_with_both_types(tmp_path: Path, column: Any, dtype: Datatype) -> None:
    with pytest.raises(Setup, match=rf"column 'a' is .*, but input a {dtype}"):
        read(tmp_path, column, TensorSpec("a", dtype))


def test_answers_are_gathered_into_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 25)
    path = tmp_path / "answers.parquet"
    with path.open("wb") as stream:
        writer = parquet.ParquetWriter(sheet_of(Mirror(TensorSpec("a", Datatype.FP32)), stream))
        for _ in range(7):
            writer.write(writer.encode(answers_of(y=np.zeros((10, 2, 3)))))
        writer.finish()
    assert [pa.parquet.ParquetFile(path).metadata.row_group(i).num_rows for i in range(3)] == [30, 30, 10]


def test_answers_that_change_their_type_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "answers.parquet").open("wb") as stream:
        writer = parquet.ParquetWriter(sheet_of(Mirror(TensorSpec("a", Datatype.FP32)), stream))
        writer.write(writer.encode(answers_of(y=np.zeros(1))))
        with pytest.raises(Setup, match="the answers change"):
            writer.write(writer.encode(answers_of(y=np.zeros((1, 2)))))
        writer.finish()
