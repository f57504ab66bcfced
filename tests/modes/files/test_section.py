"""Quoted cells of CSV files as they are read: good ones exactly, and a faulty one costs its own row alone."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.errors import Setup
from foretell.modes.files import Options, lines, predict
from foretell.modes.files import csv as csv_format
from foretell.modes.files.rows import BadRow, Source
from foretell.settings import PredictSettings
from foretell.tensors import Datatype, Signature, TensorSpec
from tests.modes.files.models import Mirror, Sum, pipeline

Row = tuple[str, ...]
NAMES = ("key", "a", "b")
SPECS = tuple(TensorSpec(name, Datatype.BYTES) for name in NAMES)
HEADER_BYTES = 30
CURE = 'is not closed in front of a comma or a line end: close it, remove it, or write "" for a quote that is text'
TEXTS = st.one_of(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.text(alphabet='x,"\n\r ', max_size=8))
SMALL = st.text(alphabet='xyz ,"\n', max_size=8).filter(lambda text: not re.match(r'"*[,\n]', text))
"""Where a cell begins with a comma or a line end, a lost quote can make another good table of the file: no reader can tell."""
ROWS = st.lists(st.tuples(SMALL, SMALL), min_size=1, max_size=6)


def written(row: Row) -> str:
    """A line in which every cell is quoted but for plain ones."""
    return ",".join(cell if re.fullmatch("[a-z0-9]+", cell) else '"' + cell.replace('"', '""') + '"' for cell in row) + "\n"


def read(path: Path) -> tuple[list[Row], list[BadRow]]:
    """The rows that have no fault, and those that have."""
    reader = csv_format.read(Source(path, Signature(SPECS, ()), 16))
    rows: list[Row] = []
    bad: list[BadRow] = []
    try:
        for chunk in reader.chunks():
            bad += chunk.bad
            if len(chunk.numbers):
                found = reader.decode(chunk)
                bad += found.bad
                rows += zip(*([cell.decode() for cell in found.arrays[name]] for name in NAMES), strict=True)
    finally:
        reader.close()
    return rows, bad


def read_text(path: Path, text: str, block_bytes: int = 2**20) -> tuple[list[Row], list[BadRow]]:
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_format, "BLOCK_BYTES", max(block_bytes, HEADER_BYTES))
        return read(path)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=8), st.sampled_from(["\n", "\r\n"]), st.integers(1, 60))
def test_what_pythons_csv_writes_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], end: str, block_bytes: int
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([NAMES, *rows])
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    assert read_text(path, "\ufeff" + text.getvalue(), block_bytes) == (rows, [])


@settings(deadline=None, max_examples=200)
@given(ROWS, st.data(), st.integers(1, 60))
def test_a_quote_too_many_or_too_few_costs_its_own_row_alone(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], data: st.DataObject, block_bytes: int
) -> None:
    rows = [(f"key{at}", *row) for at, row in enumerate(cells)]
    text = [written(row) for row in rows]
    hurt = data.draw(st.integers(0, len(rows) - 1))
    quotes = [place for place, mark in enumerate(text[hurt]) if mark == '"']
    is_lost = data.draw(st.booleans())
    if quotes and is_lost:
        place = data.draw(st.sampled_from(quotes))
        text[hurt] = text[hurt][:place] + text[hurt][place + 1 :]
    else:
        place = data.draw(st.integers(0, len(text[hurt]) - 1))
        text[hurt] = text[hurt][:place] + '"' + text[hurt][place:]
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    answered, bad = read_text(path, ",".join(NAMES) + "\n" + "".join(text), block_bytes)
    others = [row for row in rows if row != rows[hurt]]
    assert [row for row in answered if row in others] == others
    assert rows[hurt] in answered or len(answered) + len(bad) > len(others)


def test_a_quote_that_is_never_closed_is_a_bad_row_that_names_its_line(tmp_path: Path) -> None:
    text = 'key,a,b\n\n0,"x\ny",z\n"1,x,y\n2,x,y\n'
    assert read_text(tmp_path / "rows.csv", text) == (
        [("0", "x\ny", "z"), ("2", "x", "y")],
        [BadRow(1, "bad_row", f"the quote opened in line 5 {CURE}")],
    )


@pytest.mark.parametrize(
    "text",
    ['"1,x,y\n2,x,y\n"3,x,y\n', '1,"x,y\n2,x,y\n3,"x","y\n', '1,"x" ,y\n2,x,y\n3,x,"\n', '"1,x,y\r\n2,x,y\r\n"3,x,y"'],
    ids=["stray ones", "lost ones", "text behind", "the last byte"],
)
def test_rows_between_two_faulty_quotes_are_read(tmp_path: Path, text: str) -> None:
    rows, bad = read_text(tmp_path / "rows.csv", "key,a,b\n" + text)
    assert rows == [("2", "x", "y")]
    assert [row.row for row in bad] == [0, 2]


def test_a_fault_in_a_table_of_one_column_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('a\nx\n"y\nz\n')
    reader = csv_format.read(Source(path, Signature((TensorSpec("a", Datatype.BYTES),), ()), 16))
    (chunk,) = reader.chunks()
    assert reader.decode(chunk).arrays["a"].tolist() == [b"x", b"z"]
    assert [row.row for row in chunk.bad] == [1]
    reader.close()


def test_a_row_of_the_wrong_length_says_how_many_lines_quotes_make_of_it(tmp_path: Path) -> None:
    rows, bad = read_text(tmp_path / "rows.csv", 'key,a,b\n"0,x,y\n1,x,y\n2,x,y"\n3,x,y\n')
    assert rows == [("3", "x", "y")]
    assert bad[0].error == (
        "the row has 1 cells, the header 3; quotes make one row of 3 lines: is one of them lost, or too many?"
    )


def test_a_header_whose_quote_is_not_closed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Setup, match=r"rows\.csv has a header that cannot be read: the quote opened in line 2 is not closed"):
        read_text(tmp_path / "rows.csv", '\nkey,"a,b\n1,2,3\n')


def test_a_row_too_long_to_be_one_is_told_as_such_by_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_CSV_BYTES", 256)
    with pytest.raises(Setup, match=r"rows\.csv cannot be read as CSV: the row from byte 8 on has more than 256 bytes"):
        read_text(tmp_path / "rows.csv", "key,a,b\n" + "x" * 1000, 64)


def table(rows: int, faults: Sequence[int]) -> str:
    marks = dict.fromkeys(faults, '"')
    return "x_0,x_1,x_2\n" + "".join(f"{marks.get(row, '')}{row},1,2\n" for row in range(rows))


def answers(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("shard_rows", [1, 7, 1000])
def test_shards_tell_of_the_same_faults_as_the_whole_file(tmp_path: Path, shard_rows: int) -> None:
    (tmp_path / "rows.csv").write_text(table(40, [10, 20, 39]))
    target = tmp_path / "a.ndjson"
    predict(pipeline(Sum()), tmp_path / "rows.csv", target, PredictSettings(shard_rows=shard_rows, workers=2))
    assert [row["row"] for row in answers(target)] == [row for row in range(40) if row not in (10, 20, 39)]
    told = answers(tmp_path / "a.ndjson.errors.ndjson")
    assert [(row["row"], row["error"]) for row in told] == [
        (at, f"the quote opened in line {at + 2} {CURE}") for at in (10, 20, 39)
    ]


def test_a_quote_that_is_not_closed_in_many_blocks_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    monkeypatch.setattr(lines, "LONGEST_CSV_BYTES", 256)
    monkeypatch.setattr(csv_format, "BLOCK_BYTES", 64)
    (tmp_path / "rows.csv").write_text(table(500, [3, 4, 300]))
    report = predict(pipeline(Sum()), tmp_path / "rows.csv", tmp_path / "a.ndjson", PredictSettings(shard_rows=100, workers=1))
    assert (report.rows, report.failed) == (497, 3)


def test_a_cell_too_long_for_a_row_stops_the_run_which_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    monkeypatch.setattr(lines, "LONGEST_CSV_BYTES", 256)
    model = Mirror(*SPECS)
    path, target = tmp_path / "rows.csv", tmp_path / "a.ndjson"
    path.write_text("key,a,b\n" + "0,x,y\n" * 40 + '1,"' + "x\n" * 500 + '",y\n' + "2,x,y\n" * 40)
    with pytest.raises(
        Setup, match=r"rows\.csv cannot be read: the row from byte 248 on has more than 256 bytes: is a quote lost"
    ):
        predict(pipeline(model), path, target, PredictSettings(shard_rows=10, workers=1), Options())
    assert not target.exists()
    monkeypatch.setattr(lines, "LONGEST_CSV_BYTES", 2**20)
    report = predict(pipeline(model), path, target, PredictSettings(shard_rows=10, workers=1), Options())
    assert (report.rows, report.failed, report.resumed > 0) == (81, 0, True)
