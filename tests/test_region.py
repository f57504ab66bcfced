"""Named numbers in shared memory: found again by the next writer, read by anybody at any time, and never an exception."""

import math
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.region import MOST_NAME_BYTES, Name, Region, lost, read, total

NAMES = st.lists(st.text(max_size=20), min_size=1, max_size=4).map(tuple)


def shown(name: Name) -> Name:
    """A name as it is kept: what separates its parts is left out of them."""
    return tuple(part.replace("\x00", "").encode("utf-8", "replace").decode() for part in name)


def test_what_one_writer_counted_the_next_goes_on_with() -> None:
    memory = memoryview(bytearray(4096))
    for _ in range(2):
        vector = Region(memory).vector(("requests", "m"), 3)
        assert vector is not None
        vector[1] += 2.0
    assert read(memory) == {("requests", "m"): [0.0, 4.0, 0.0]}


@given(st.dictionaries(NAMES, st.lists(st.floats(0, 1e9), min_size=1, max_size=5), max_size=8))
def test_every_vector_is_read_back_under_its_name(written: dict[Name, list[float]]) -> None:
    region = Region(size_bytes=2**16)
    kept = {}
    for name, numbers in written.items():
        vector = region.vector(name, len(numbers))
        if vector is not None:
            for place, number in enumerate(numbers):
                vector[place] = number
            kept[shown(name)] = numbers
    assert read(region.memory) == kept
    assert set(Region(region.memory).names()) == set(kept)


@given(st.binary(max_size=400))
def test_garbage_is_read_and_taken_over_without_an_exception(data: bytes) -> None:
    memory = memoryview(bytearray(data))
    assert all(math.isfinite(number) and number >= 0 for numbers in read(memory).values() for number in numbers)
    assert lost(memory) >= 0
    total([memory, memory])
    if len(data) >= 16:
        Region(memory).vector(("a",), 1)


@given(st.integers(0, 60), st.binary(min_size=8, max_size=8))
def test_a_word_that_was_overwritten_never_hides_how_to_go_on(word: int, garbage: bytes) -> None:
    memory = memoryview(bytearray(512))
    Region(memory).vector(("a", "b"), 4)
    memory[word * 8 : word * 8 + 8] = garbage
    vector = Region(memory).vector(("c",), 2)
    assert all(number >= 0 for numbers in read(memory).values() for number in numbers)
    if vector is not None:
        vector[0] += 1.0
        assert read(memory)[("c",)][0] >= 1.0


def test_numbers_that_cannot_be_counts_are_zero() -> None:
    region = Region(size_bytes=1024)
    vector = region.vector(("a",), 4)
    assert vector is not None
    vector[:] = memoryview(bytearray(8 * 4)).cast("d")
    vector[0], vector[1], vector[2], vector[3] = math.nan, -1.0, math.inf, 5.0
    assert read(region.memory) == {("a",): [0.0, 0.0, 0.0, 5.0]}
    again = Region(region.memory).vector(("a",), 4)
    assert again is not None
    again[0] += 1.0
    assert read(region.memory) == {("a",): [1.0, 0.0, 0.0, 5.0]}


def test_what_finds_no_room_is_none_and_is_counted() -> None:
    region = Region(size_bytes=128)
    assert region.vector(("a",), 4) is not None
    assert region.vector(("b",), 40) is None
    assert region.vector(("n" * (MOST_NAME_BYTES + 1),), 1) is None
    assert region.vector(("a",), 5) is None, "a vector does not change its size"
    assert (lost(region.memory), list(region.names())) == (3, [("a",)])


def test_a_record_that_was_begun_and_not_published_leaves_nothing_behind() -> None:
    region = Region(size_bytes=1024)
    begin = region.memory.cast("Q")[0] * 8
    region.memory[begin : begin + 200] = b"\xff" * 200
    vector = Region(region.memory).vector(("new",), 6)
    assert vector is not None
    assert vector.tolist() == [0.0] * 6


def test_the_sum_over_regions_is_number_by_number() -> None:
    regions = [Region(size_bytes=1024) for _ in range(3)]
    for number, region in enumerate(regions[:2]):
        vector = region.vector(("a",), 2)
        assert vector is not None
        vector[number] = number + 1.0
    assert total(region.memory for region in regions) == {("a",): [1.0, 2.0]}


WRITER = """
import mmap, sys
from foretell.region import Region
memory = memoryview(mmap.mmap(int(sys.argv[1]), 0))
vector = Region(memory).vector(("counted", "by a child"), 2)
print("counting", flush=True)
while True:
    vector[0] += 1.0
    vector[1] += 0.5
"""


@pytest.fixture
def shared() -> Iterator[int]:
    fd = os.memfd_create("test")
    os.ftruncate(fd, 2**16)
    yield fd
    os.close(fd)


def test_a_reader_sees_whole_numbers_that_only_grow_while_writers_are_killed(shared: int) -> None:
    memory, seen = memoryview(mmap.mmap(shared, 0)), [0.0, 0.0]
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(shared)], pass_fds=(shared,), stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        for _ in range(2000):
            [numbers] = read(memory).values()
            assert all(now >= before for now, before in zip(numbers, seen, strict=True))
            assert numbers[0] % 1.0 == 0.0
            seen = numbers
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    assert seen[0] > 3
