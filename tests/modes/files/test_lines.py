"""Where rows end: where they are read to end, and Arrow's own reader finds them to, wherever a file is cut."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from foretell.modes.files import lines
from foretell.modes.files.quotes import find_quotes
from foretell.modes.files.section import Extent, Section

CELLS = st.text(alphabet='a,"\n\r ', max_size=40)
LINES = st.sampled_from(["{}", " ", "", '{"a": "\\n"}', "\r", "x" * 20])


def rows_by_arrow(data: bytes) -> int:
    """Rows of one column, bad ones too."""
    return rows_in(io.BytesIO(data))


def rows_as_read(data: bytes, block_bytes: int = 2**20) -> int:
    """The same, as they are read: a row whose quotes are faulty costs no other."""
    return rows_in(Section(io.BytesIO(data), Extent(0, len(data), 1), block_bytes, 1))


def rows_in(stream: Any) -> int:
    bad: list[object] = []

    def note(row: object) -> str:
        bad.append(row)
        return "skip"

    table = pa.csv.read_csv(
        stream,
        pa.csv.ReadOptions(use_threads=False, column_names=["h"]),
        pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
        pa.csv.ConvertOptions(check_utf8=False, column_types={"h": pa.string()}),
    )
    return int(table.num_rows) + len(bad)


@settings(deadline=None, max_examples=300)
@given(CELLS, st.integers(1, 4), st.integers(1, 9))
def test_pieces_of_csv_hold_the_rows_that_are_read_from_the_whole(text: str, most_rows: int, block_bytes: int) -> None:
    data = ("h\n" + text).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block_bytes)
        pieces = list(lines.cut(io.BytesIO(data), 2, "csv", most_rows, 10**9))
    assert sum(piece.rows for piece in pieces) == rows_as_read(data) - 1 == rows_as_read(data, block_bytes) - 1
    for piece in pieces:
        assert rows_as_read(data[piece.start : piece.stop]) == piece.rows <= most_rows


@settings(deadline=None, max_examples=300)
@given(CELLS)
def test_rows_without_faults_are_those_that_arrow_finds(text: str) -> None:
    data = ("h\n" + text).encode()
    assume(not find_quotes(data, last=True).faults)
    assert rows_as_read(data) == rows_by_arrow(data)


@given(
    st.lists(st.sampled_from(["{}", " ", "", '{"a": "\\n"}', "\r", "x" * 20]), max_size=12), st.integers(1, 3), st.booleans()
)
def test_pieces_of_ndjson_hold_the_lines_that_are_not_blank(rows: list[str], most_rows: int, ended: bool) -> None:
    data = ("\n".join(rows) + ("\n" if ended else "")).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", 7)
        pieces = list(lines.cut(io.BytesIO(data), 0, "ndjson", most_rows, 10**9))
    found = [line for piece in pieces for line in data[piece.start : piece.stop].split(b"\n") if line.strip()]
    assert found == [row.encode() for row in rows if row.strip()]
    assert all(piece.rows <= most_rows for piece in pieces)


def test_a_piece_ends_with_the_row_that_fills_its_bytes() -> None:
    data = b"".join(b"%04d\n" % number for number in range(100))
    pieces = list(lines.cut(io.BytesIO(data), 0, "ndjson", 1000, 52))
    assert {piece.stop - piece.start for piece in pieces[:-1]} == {55}
    assert sum(piece.rows for piece in pieces) == 100
