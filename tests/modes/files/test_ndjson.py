"""Lines of NDJSON files: each stands or falls alone."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.errors import Broken, Setup
from foretell.modes.files import ndjson
from foretell.modes.files.rows import Rows, Source
from foretell.tensors import Datatype, Signature, TensorSpec
from tests.modes.files.models import Mirror, answers_of, sheet_of

FP32 = TensorSpec("a", Datatype.FP32)


def read(path: Path, *specs: TensorSpec, chunk_rows: int = 16) -> list[Rows]:
    reader = ndjson.read(Source(path, Signature(specs, ()), chunk_rows))
    try:
        return [reader.decode(chunk) for chunk in reader.chunks()]
    finally:
        reader.close()


def read_one(tmp_path: Path, lines: str, *specs: TensorSpec) -> Rows:
    path = tmp_path / "rows.ndjson"
    path.write_text(lines)
    (rows,) = read(path, *specs)
    return rows


def test_lines_that_are_not_json_or_do_not_fit_are_bad_rows(tmp_path: Path) -> None:
    lines = '{"a": 1}\nnot json\n{"a": "x"}\n{"a": 1},{"a": 2}\n[1\n2]\n{"b": 1}\n\n{"a": 2, "b": 3}'
    rows = read_one(tmp_path, lines, FP32)
    assert rows.numbers.tolist() == [0, 7]
    assert rows.arrays["a"].tolist() == [1.0, 2.0]
    codes = {bad.row: bad.code for bad in rows.bad}
    assert codes == {1: "invalid_json", 2: "bad_row", 3: "invalid_json", 4: "bad_row", 5: "bad_row", 6: "bad_row"}


def test_null_and_not_finite_numbers_are_read(tmp_path: Path) -> None:
    rows = read_one(tmp_path, '{"a": null}\n{"a": "NaN"}\n{"a": "-Infinity"}\n{"a": 3}\n', FP32)
    np.testing.assert_array_equal(rows.arrays["a"], [np.nan, np.nan, -np.inf, 3])


def test_null_is_a_bad_row_where_no_float_is_taken(tmp_path: Path) -> None:
    rows = read_one(tmp_path, '{"a": null}\n{"a": 3}\n', TensorSpec("a", Datatype.INT32))
    assert (rows.arrays["a"].tolist(), [bad.row for bad in rows.bad]) == ([3], [0])


def test_a_number_outside_64_bits_is_a_bad_row(tmp_path: Path) -> None:
    rows = read_one(tmp_path, '{"a": 1}\n{"a": 99999999999999999999}\n', TensorSpec("a", Datatype.INT64))
    assert (rows.arrays["a"].tolist(), [bad.row for bad in rows.bad]) == ([1], [1])


def test_columns_side_by_side_and_lists_are_the_same_tensor(tmp_path: Path) -> None:
    spec = TensorSpec("a", Datatype.FP64, (2,))
    flat = read_one(tmp_path, '{"a_0": 1, "a_1": 2}\n{"a_0": 3, "a_1": 4}\n', spec)
    nested = read_one(tmp_path, '{"a": [1, 2]}\n{"a": [3, 4]}\n', spec)
    np.testing.assert_array_equal(flat.arrays["a"], nested.arrays["a"])


def test_text_may_be_base64(tmp_path: Path) -> None:
    rows = read_one(tmp_path, '{"a": "é"}\n{"a": {"b64": "/w=="}}\n', TensorSpec("a", Datatype.BYTES))
    assert rows.arrays["a"].tolist() == ["é".encode(), b"\xff"]


def test_a_chunk_of_bad_rows_alone_is_no_rows(tmp_path: Path) -> None:
    rows = read_one(tmp_path, "x\ny\n", TensorSpec("a", Datatype.FP32, (2,)))
    assert (len(rows), [bad.row for bad in rows.bad]) == (0, [0, 1])


def test_a_line_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "LONGEST_LINE_BYTES", 100)
    monkeypatch.setattr(ndjson, "BLOCK_BYTES", 64)
    with pytest.raises(Setup, match="over 100 bytes"):
        read_one(tmp_path, "[" * 1000, FP32)


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_lines_are_found_wherever_a_block_ends(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "BLOCK_BYTES", block)
    stream = io.BytesIO(b"one\n\n two \r\nthree")
    assert list(ndjson.split_lines(stream, Source(Path("x"), Signature((), ()), 1))) == [b"one", b" two \r", b"three"]


def test_bytes_that_are_no_text_are_refused() -> None:
    writer = ndjson.NdjsonWriter(sheet_of(Mirror(FP32), io.BytesIO()))
    with pytest.raises(Broken, match="not UTF-8"):
        writer.encode(answers_of(y=np.array([b"\xff"], dtype=np.object_)))


def test_an_output_named_row_leaves_the_row_number_another_name() -> None:
    writer = ndjson.NdjsonWriter(sheet_of(Mirror(FP32), io.BytesIO()))
    assert json.loads(writer.encode(answers_of(row=np.array([7.0])))) == {"row_number": 0, "row": 7.0}


def spelled(value: Any) -> Any:
    return {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}.get(value, value) if isinstance(value, str) else value


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_is_written_reads_back_the_same(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    shape = data.draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    size = count * int(np.prod(shape))
    floats = np.array(data.draw(st.lists(st.floats(width=32), min_size=size, max_size=size)), dtype=np.float32)
    whole = np.array(data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=count, max_size=count)), dtype=np.uint64)
    texts = data.draw(st.lists(st.text(st.characters(codec="utf-8")), min_size=count, max_size=count))
    outputs = {
        "f": floats.reshape(count, *shape),
        "i": whole,
        "t": np.array([text.encode() for text in texts], dtype=np.object_),
    }
    writer = ndjson.NdjsonWriter(sheet_of(Mirror(FP32), io.BytesIO()))
    rows = [json.loads(line) for line in writer.encode(answers_of(**outputs)).split(b"\n")[:-1]]
    back = np.array([np.vectorize(spelled, otypes=[float])(row["f"]) if shape else spelled(row["f"]) for row in rows])
    np.testing.assert_array_equal(back.reshape(count, *shape).astype(np.float32), outputs["f"])
    assert [row["i"] for row in rows] == whole.tolist()
    assert [row["t"] for row in rows] == texts
    assert [row["row"] for row in rows] == list(range(count))
