"""What memory a process holds, and giving back what is free."""

import ctypes
import gc
import mmap
import os
import weakref
from pathlib import Path

import pytest

from foretell.memory import Growth, resident_bytes, set_aside, set_aside_more, tidy, trim

MIB = 2**20


def test_memory_that_is_used_counts_and_pages_of_files_do_not(tmp_path: Path) -> None:
    before = resident_bytes()
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held[:] = bytes(64 * MIB)
        assert resident_bytes() - before > 60 * MIB
    (tmp_path / "file").write_bytes(bytes(64 * MIB))
    before = resident_bytes()
    with (tmp_path / "file").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[i] for i in range(0, 64 * MIB, 4096)) == 0
        assert resident_bytes() - before < 16 * MIB


def test_another_process_can_be_asked_about() -> None:
    assert resident_bytes(os.getppid()) > 0


def test_where_nobody_counts_it_is_none(tmp_path: Path) -> None:
    assert resident_bytes(1, tmp_path) == 0


def test_what_is_free_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("this C library keeps what is free")
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    size = 64 * 1024  # small enough to come from the heap, and free in its middle afterwards
    held = [libc.malloc(size) for _ in range(1024)]
    for address in held:
        ctypes.memset(address, 1, size)
    last = libc.malloc(size)
    full = resident_bytes()
    for address in held:
        libc.free(address)
    assert trim()
    assert full - resident_bytes() > 48 * MIB
    libc.free(last)


def test_growth_is_counted_from_its_making_and_never_negative() -> None:
    with mmap.mmap(-1, 32 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held[:] = bytes(32 * MIB)
        growth = Growth()
        with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as more:
            more[:] = bytes(64 * MIB)
            assert growth.bytes > 60 * MIB
    assert growth.bytes < 8 * MIB


class Knot:
    """What holds itself, as many a model does."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_set_aside_is_passed_over_by_collections_until_it_is_tidied() -> None:
    knot = Knot()
    gone = weakref.ref(knot)
    set_aside()
    try:
        del knot
        gc.collect()
        assert gone() is not None
        tidy()
        assert gone() is None
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_what_comes_later_is_set_aside_too() -> None:
    set_aside()
    try:
        before, later = gc.get_freeze_count(), [Knot() for _ in range(100)]
        set_aside_more()
        assert gc.get_freeze_count() >= before + len(later)
    finally:
        gc.unfreeze()


def test_where_nothing_was_set_aside_nothing_is() -> None:
    gc.unfreeze()
    set_aside_more()
    tidy()
    assert gc.get_freeze_count() == 0
