"""What a connection of the fast lane keeps of a body that comes."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from foretell.modes.http.turn import SMALL, Collected

PIECES = st.lists(st.one_of(st.binary(max_size=9), st.sampled_from([b"x" * SMALL, b"y" * (SMALL + 1), b"z" * (SMALL - 1)])))


@given(PIECES)
def test_a_body_is_all_its_pieces_in_their_order(pieces: list[bytes]) -> None:
    collected = Collected()
    for piece in pieces:
        collected.add(piece)
    assert collected.size == sum(map(len, pieces))
    assert b"".join(collected.take()) == b"".join(pieces)
    assert (collected.size, collected.take()) == (0, [])


def test_what_was_cleared_is_not_in_the_next_body() -> None:
    collected = Collected()
    collected.add(b"old")
    collected.clear()
    collected.add(b"new")
    assert collected.take() == [b"new"]


def test_a_body_that_comes_in_very_small_pieces_takes_little_more_than_its_bytes() -> None:
    collected = Collected()
    for _ in range(10_000):
        collected.add(b"ab")
    assert sum(map(sys.getsizeof, collected.take())) < 2 * 20_000
