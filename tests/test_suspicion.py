"""Which request is taken to make a process crash."""

from hypothesis import given
from hypothesis import strategies as st

from foretell.suspicion import MOST_CRASHES, REFUSED, SUSPECTED, Marks, Suspicion

MARKS = st.integers(1, 2**64 - 1)


def test_the_only_suspect_at_another_crash_is_guilty() -> None:
    suspicion = Suspicion()
    assert suspicion.crashed([1, 2, 2]) == []
    assert suspicion.crashed([3]) == []
    assert suspicion.crashed([2, 4]) == [2]
    assert list(suspicion.refused) == [2]
    assert set(suspicion.suspected) == {1, 3, 4}


def test_neighbours_that_come_again_with_the_culprit_are_not_guilty() -> None:
    suspicion = Suspicion()
    together = range(1, 21)
    assert suspicion.crashed(together) == []
    assert suspicion.crashed(together) == []
    assert suspicion.crashed([7]) == [7]


def test_suspects_that_never_are_there_alone_are_guilty_in_the_end() -> None:
    suspicion = Suspicion()
    assert [suspicion.crashed([1, 2]) for _ in range(MOST_CRASHES)] == [*[[]] * (MOST_CRASHES - 1), [1, 2]]


def test_who_was_answered_alone_is_no_suspect() -> None:
    suspicion = Suspicion()
    suspicion.crashed([1, 2])
    suspicion.acquit(1)
    assert suspicion.crashed([1, 2]) == [2]
    assert list(suspicion.suspected) == [1]


@given(st.lists(st.lists(MARKS, max_size=64), max_size=20))
def test_what_is_remembered_is_bounded_and_nobody_is_both_suspected_and_refused_at_first(crashes: list[list[int]]) -> None:
    suspicion = Suspicion()
    for marks in crashes:
        guilty = suspicion.crashed(marks)
        assert set(guilty) <= set(marks)
        assert not set(guilty) & set(suspicion.suspected)
    assert len(list(suspicion.suspected)) < SUSPECTED
    assert len(list(suspicion.refused)) < REFUSED
    assert len(suspicion._crashes) < SUSPECTED + 64


def test_a_stray_write_hinders_nobody() -> None:
    suspicion = Suspicion()
    suspicion.suspected.memory[0] = 2**64 - 1
    assert [suspicion.crashed([1]), suspicion.crashed([1])] == [[], [1]]


def test_of_too_many_marks_the_oldest_is_forgotten() -> None:
    marks = Marks.create(4)
    for mark in [7, 7, 8, 9, 10]:
        marks.add(mark)
    assert sorted(marks) == [8, 9, 10]
    marks.discard(9)
    assert sorted(marks) == [8, 10]
    assert marks.memory[0] == 4
