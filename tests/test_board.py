"""The memory that the processes of a server share."""

import os
import subprocess
import sys

from foretell.board import COUNTERS_BYTES, SUSPECTS, Board, SlotState, Turns


def test_what_one_process_writes_another_reads() -> None:
    board = Board.create(3)
    code = f"""
from foretell.board import Board, SlotState
board = Board({board.fd})
slot = board.slots[1]
slot.state = SlotState.READY
slot.beat(5, 7)
slot.counters[:3] = b"abc"
slot.suspects[0] = 2**64 - 1
print(len(board.slots))
"""
    run = subprocess.run([sys.executable, "-c", code], pass_fds=[board.fd], capture_output=True, text=True, check=True)
    assert run.stdout == "3\n"
    slot = board.slots[1]
    assert (slot.state, slot.connections, slot.requests) == (SlotState.READY, 5, 7)
    assert (bytes(slot.counters[:3]), slot.suspects[0]) == (b"abc", 2**64 - 1)
    assert slot.heartbeat > 0
    assert board.slots[0].state is SlotState.VACANT


def test_memory_is_taken_only_where_it_is_written() -> None:
    board = Board.create(256)
    assert os.fstat(board.fd).st_size > 256 * COUNTERS_BYTES
    board.slots[200].counters[0] = 1
    assert os.fstat(board.fd).st_blocks * 512 < 2**20


def test_counters_are_kept_from_one_worker_to_the_next() -> None:
    slot = Board.create(1).slots[0]
    slot.take(11)
    slot.counters[0] = 9
    slot.leave(SlotState.GONE)
    slot.take(12)
    assert (slot.counters[0], slot.pid, slot.heartbeat, slot.state) == (9, 12, 0.0, SlotState.STARTING)


def test_who_leaves_tells_what_it_was_computing_and_leaves_nothing_for_the_next() -> None:
    slot = Board.create(1).slots[0]
    slot.suspects[3] = 5
    slot.suspects[SUSPECTS - 1] = 6
    assert slot.leave(SlotState.GONE) == [5, 6]
    assert slot.leave(SlotState.GONE) == []


def test_what_one_process_suspects_and_refuses_others_see() -> None:
    board = Board.create(1)
    board.suspicion.crashed([1, 2])
    assert board.suspicion.crashed([2, 3]) == [2]
    other = Board(board.fd).suspicion
    assert (set(other.suspected), set(other.refused)) == ({1, 3}, {2})
    assert other.crashed([4, 3]) == [3]
    assert set(board.suspicion.refused) == {2, 3}


def test_states_are_counted_for_all_slots_that_somebody_is_to_have() -> None:
    board = Board.create(3)
    board.slots[0].state = SlotState.READY
    board.slots[1].state = SlotState.FAILED
    assert board.states() == {"starting": 0, "ready": 1, "draining": 0, "gone": 0, "failed": 1}


def test_a_worker_with_more_connections_leaves_the_next_to_the_others_for_a_moment() -> None:
    board = Board.create(3)
    own, other, _ = board.slots
    own.state = other.state = SlotState.READY
    other.connections = 3
    turns = Turns(board, own)
    assert turns.patience_s(3) == 0.0
    assert turns.patience_s(4) == Turns.PATIENCE_S
    other.state = SlotState.DRAINING
    assert turns.patience_s(4) == 0.0


def test_a_worker_that_is_starting_takes_connections_only_while_nobody_is_ready() -> None:
    board = Board.create(2)
    own, other = board.slots
    own.state = other.state = SlotState.STARTING
    turns = Turns(board, own)
    assert turns.patience_s(9) == 0.0
    other.state = SlotState.READY
    assert turns.patience_s(0) is None


def test_what_a_stray_write_left_in_a_slot_hinders_nobody() -> None:
    board = Board.create(2)
    own, other = board.slots
    own.take(1)
    other.take(2)
    other._whole[:] = memoryview(b"\xff" * 512).cast("Q")
    assert other.state is SlotState.GONE
    assert other.heartbeat == 0.0
    assert sum(board.states().values()) == 2
    assert Turns(board, own).patience_s(3) == 0.0
    os.close(board.fd)
