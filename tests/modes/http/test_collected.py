"""A body as it comes, in pieces of any size."""

import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretell.modes.http.collected import ALIGNMENT, SMALL, Collected

PIECES = st.lists(st.one_of(st.binary(max_size=9), st.sampled_from([b"x" * SMALL, b"y" * (SMALL + 1), b"z" * (SMALL - 1)])))


@given(PIECES)
def test_a_body_is_all_its_pieces_in_their_order(pieces: list[bytes]) -> None:
    collected = Collected()
    for piece in pieces:
        collected.add(piece)
    assert collected.size == sum(map(len, pieces))
    assert collected.take() == b"".join(pieces)
    assert (collected.size, collected.take()) == (0, b"")


@given(PIECES, st.integers(0, 100))
def test_what_stands_behind_the_lead_is_aligned_and_may_be_written_to(pieces: list[bytes], lead: int) -> None:
    collected = Collected()
    for piece in pieces:
        collected.add(piece)
    body = collected.take(lead)
    assert body == b"".join(pieces)
    behind = np.frombuffer(body, np.uint8)[lead:]
    if len(behind):
        assert behind.flags.writeable
        assert behind.ctypes.data % ALIGNMENT == 0


def test_what_was_cleared_is_not_in_the_next_body() -> None:
    collected = Collected()
    collected.add(b"old")
    collected.clear()
    collected.add(b"new")
    assert collected.take() == b"new"


def test_a_body_that_comes_in_very_small_pieces_takes_little_more_than_its_bytes() -> None:
    collected = Collected()
    for _ in range(10_000):
        collected.add(b"ab")
    assert sum(map(sys.getsizeof, collected.pieces)) < 2 * 20_000
