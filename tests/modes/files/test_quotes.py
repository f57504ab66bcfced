"""Which quotes open and close cells, and which are faults."""

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foretell.modes.files import quotes
from foretell.modes.files.quotes import find_quotes, is_closed

TEXTS = st.text(alphabet='a,"\n\r', max_size=30).map(str.encode)
ENDS = b",\r\n"


def cells_by_hand(block: bytes, *, last: bool) -> tuple[list[tuple[int, int | None]], list[int]]:
    """Where quoted cells begin and end (None: not in this block), and the faults, byte by byte."""
    cells: list[tuple[int, int | None]] = []
    faults: list[int] = []
    place = 0
    while place < len(block):
        if block[place] != ord('"') or (place and block[place - 1] not in ENDS):
            place += 1
            continue
        end = place + 1
        while end < len(block) and (block[end] != ord('"') or block[end + 1 : end + 2] == b'"'):
            end += 2 if block[end] == ord('"') else 1
        is_open = end >= len(block)
        if is_open and not last:
            return [*cells, (place, None)], faults
        if not is_open and (end + 1 == len(block) or block[end + 1] in ENDS):
            cells.append((place, end))
            place = end + 1
            continue
        faults.append(place)
        while place < len(block) and block[place] not in b"\r\n":
            place += 1
    return cells, faults


@given(TEXTS, st.booleans())
@example(b'"a",5" pipe,12"\n', True)
@example(b'5",6",""\n"a""b",""""\n', True)
def test_cells_and_faults_are_those_found_byte_by_byte(block: bytes, last: bool) -> None:
    found = find_quotes(block, last=last)
    cells, faults = cells_by_hand(block, last=last)
    inside = {place for start, end in cells for place in range(start + 1, len(block) if end is None else end)}
    ends = [place for place, byte in enumerate(block) if byte in b"\r\n"]
    assert list(found.faults) == faults
    assert found.open == next((start for start, end in cells if end is None), None)
    assert [place for place in ends if found.hold(place)] == [place for place in ends if place in inside]


@given(TEXTS, st.integers(1, 5))
def test_a_cell_is_closed_where_its_quote_is_no_fault_of_the_whole(text: bytes, scan_bytes: int) -> None:
    block = b'"' + text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotes, "SCAN_BYTES", scan_bytes)
        assert is_closed(io.BytesIO(block), 0, len(block)) == (0 not in find_quotes(block, last=True).faults)


def test_looking_for_a_closing_quote_leaves_the_stream_where_it_was() -> None:
    stream = io.BytesIO(b'a,"b",c')
    stream.seek(4)
    assert is_closed(stream, 2, 7)
    assert stream.tell() == 4
