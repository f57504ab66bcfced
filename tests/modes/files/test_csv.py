"""Cells of CSV files: what is a number, what is empty, what is a bad row."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.errors import Setup
from foretell.modes.files import csv as csv_format
from foretell.modes.files.rows import Rows, Source
from foretell.tensors import Datatype, Signature, TensorSpec
from tests.modes.files.models import Mirror, answers_of, sheet_of


def read(path: Path, *specs: TensorSpec, chunk_rows: int = 16) -> list[Rows]:
    reader = csv_format.read(Source(path, Signature(specs, ()), chunk_rows))
    try:
        found = []
        for chunk in reader.chunks():
            rows = reader.decode(chunk) if len(chunk.numbers) else Rows(chunk.numbers, {})
            found.append(Rows(rows.numbers, rows.arrays, (*chunk.bad, *rows.bad)))
        return found
    finally:
        reader.close()


def read_one(tmp_path: Path, text: str, *specs: TensorSpec) -> Rows:
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode())
    (rows,) = read(path, *specs)
    return rows


FP32 = TensorSpec("a", Datatype.FP32)


def test_an_empty_cell_is_nan_for_a_float(tmp_path: Path) -> None:
    rows = read_one(tmp_path, 'a,b\n1.5,x\n,x\nNA,x\n"",x\n null ,x\n', FP32)
    np.testing.assert_array_equal(rows.arrays["a"], [1.5, np.nan, np.nan, np.nan, np.nan])
    assert rows.bad == ()


def test_an_empty_cell_is_a_bad_row_for_a_whole_number(tmp_path: Path) -> None:
    rows = read_one(tmp_path, "a,b\n1,x\n,x\n3.0,x\n-4,x\n", TensorSpec("a", Datatype.INT64))
    assert rows.arrays["a"].tolist() == [1, 3, -4]
    assert rows.numbers.tolist() == [0, 2, 3]
    assert [(bad.row, bad.code, bad.error) for bad in rows.bad] == [
        (1, "bad_row", "column 'a' is empty, input a INT64 [] needs a value")
    ]


@pytest.mark.parametrize(
    ("dtype", "cell"),
    [
        (Datatype.FP32, "abc"),
        (Datatype.FP32, "1_0"),
        (Datatype.INT64, "1.5"),
        (Datatype.INT64, "99999999999999999999"),
        (Datatype.UINT64, "-1"),
        (Datatype.BOOL, "maybe"),
        (Datatype.FP32, "\ufffd"),
    ],
)
def test_a_cell_that_is_no_number_is_a_bad_row_alone(tmp_path: Path, dtype: Datatype, cell: str) -> None:
    rows = read_one(tmp_path, f"a,b\n1,x\n{cell},x\n 0 ,x\n", TensorSpec("a", dtype))
    assert rows.arrays["a"].tolist() == [1, 0]
    assert [bad.row for bad in rows.bad] == [1]
    assert repr(cell) in rows.bad[0].error


def test_a_row_with_too_many_or_too_few_cells_is_a_bad_row_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n0,x\n1\n\n2,"x\ny"\n3,x,y\n4,\n5\n')
    rows = read(path, FP32, chunk_rows=2)
    numbers = [(int(number), value) for part in rows for number, value in zip(part.numbers, part.arrays["a"], strict=True)]
    assert numbers == [(0, 0.0), (2, 2.0), (4, 4.0)]
    assert [bad.row for part in rows for bad in part.bad] == [1, 3, 5]


def test_a_file_whose_rows_are_all_of_another_length_still_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "1,2,3\n" * 5)
    assert [bad.row for part in read(path, FP32) for bad in part.bad] == [0, 1, 2, 3, 4]


def test_text_is_taken_as_it_is(tmp_path: Path) -> None:
    rows = read_one(tmp_path, 'a\nNA\n" b "\n"c""d"\n', TensorSpec("a", Datatype.BYTES))
    assert rows.arrays["a"].tolist() == [b"NA", b" b ", b'c"d']


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    rows = read_one(tmp_path, "\ufeffa,b\n1,2\n", FP32)
    assert rows.arrays["a"].tolist() == [1.0]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfea\x00\n\x00"])
def test_a_file_without_a_readable_header_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(Setup, match=r"rows\.csv"):
        read(path, FP32)


@pytest.mark.parametrize(("mark", "shown"), [(";", ";"), ("\t", "tabs")])
def test_a_file_with_another_separator_is_told_so(tmp_path: Path, mark: str, shown: str) -> None:
    with pytest.raises(Setup, match=f"separated by {shown}: this reads commas"):
        read_one(tmp_path, f"a{mark}b\n1{mark}2\n", FP32)


def test_a_column_may_have_a_semicolon_in_its_name(tmp_path: Path) -> None:
    assert len(read_one(tmp_path, "a;b\n1\n", TensorSpec("a;b", Datatype.FP32))) == 1


def test_two_outputs_that_share_a_column_name_are_refused() -> None:
    model = Mirror(FP32)
    writer = csv_format.CsvWriter(sheet_of(model, io.BytesIO()))
    with pytest.raises(Exception, match="two output columns are named 'y_0'"):
        writer.encode(answers_of(y=np.zeros((1, 1)), y_0=np.zeros(1)))


NUMBERS = st.floats(width=32)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(NUMBERS, st.integers(-(2**63), 2**63 - 1), TEXTS), min_size=1, max_size=20))
def test_what_is_written_reads_back_the_same(rows: list[tuple[float, int, str]]) -> None:
    stream = io.BytesIO()
    outputs: dict[str, Any] = {
        "f": np.array([row[0] for row in rows], dtype=np.float32),
        "i": np.array([row[1] for row in rows], dtype=np.int64),
        "t": np.array([row[2].encode() for row in rows], dtype=np.object_),
    }
    writer = csv_format.CsvWriter(sheet_of(Mirror(FP32), stream))
    writer.write(writer.encode(answers_of(**outputs)))
    writer.finish()
    found = list(csv.DictReader(io.StringIO(stream.getvalue().decode(), newline="")))
    np.testing.assert_array_equal(np.array([row["f"] for row in found], dtype=np.float32), outputs["f"])
    assert [int(row["i"]) for row in found] == outputs["i"].tolist()
    assert [row["t"] for row in found] == [row[2] for row in rows]
