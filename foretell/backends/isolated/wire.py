"""What crosses between a server and a model's own process: fixed headers over a socket, tensors and JSON in shared memory.

Each side writes one shared memory and reads the other's, in turns: a header says how much of it is filled. A tensor stands
there as four or more int64 (offset, bytes, axes, the length of each), all of them in front, in the signature's order; its
elements follow at the offset, row-major, BYTES each behind its length.
"""

import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from math import prod
from typing import Any

import msgspec
import numpy as np

from foretell.elements import read_elements, write_elements
from foretell.errors import Broken, Invalid
from foretell.tensors import Array, Arrays, Datatype, TensorSpec

HEADER = struct.Struct("<IxxxxQQ")  # what it is, bytes that are filled, bytes that the memory has
FIRST_BYTES = 64 * 2**10
KEPT_BYTES = 16 * 2**20
"""What a memory has grown beyond this is given back after each use."""
MOST_BYTES = 4 * 2**30
"""What one forward may take, and what it may give."""
MOST_AXES = 64
_ALIGNED = 64


class Word(IntEnum):
    """What a header announces."""

    LOAD = 1  # to the process: JSON, what to load
    LOADED = 2  # from it: JSON, the model's signature
    FORWARD = 3  # to it: tensors
    ANSWER = 4  # from it: tensors
    REFUSED = 5  # from it: JSON, one of our own errors
    RAISED = 6  # from it: JSON, any other exception


_WORDS = {int(word): word for word in Word}


class Lost(Exception):
    """The other side has gone, or says what cannot be."""


class Memory:
    """One shared memory, known by its descriptor alone: there is no name that could be left behind. It only grows."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.view = mmap.mmap(descriptor, os.fstat(descriptor).st_size)

    @classmethod
    def new(cls, name: str) -> "Memory":
        """``name`` is seen in /proc/PID/fd only."""
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, FIRST_BYTES)
            # A memory that could shrink under its reader would kill it.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            return cls(descriptor)
        except OSError:
            os.close(descriptor)
            raise

    def write(self, data: bytes) -> int:
        """Fill the memory from its start; gives how much is filled."""
        self._reserve(len(data))
        self.view[: len(data)] = data
        return len(data)

    def write_tensors(self, specs: Sequence[TensorSpec], arrays: Arrays) -> int:
        """Copy the tensors in; gives how much is filled. Raises Broken when they are larger than a memory may be."""
        tensors = [_plain(arrays[spec.name]) for spec in specs]
        table: list[int] = []
        at = 8 * sum(3 + arrays[spec.name].ndim for spec in specs)
        for spec, tensor in zip(specs, tensors, strict=True):
            at = -(-at // _ALIGNED) * _ALIGNED
            table += (at, tensor.nbytes, arrays[spec.name].ndim, *arrays[spec.name].shape)
            at += tensor.nbytes
        self._reserve(at)
        struct.pack_into(f"<{len(table)}q", self.view, 0, *table)
        start = 0
        for spec, tensor in zip(specs, tensors, strict=True):
            there = np.frombuffer(self.view, tensor.dtype, tensor.size, table[start]).reshape(tensor.shape)
            np.copyto(there, tensor)
            start += 3 + arrays[spec.name].ndim
        return at

    def read(self, filled: int) -> bytes:
        return self.view[:filled]

    def read_tensors(self, specs: Sequence[TensorSpec], filled: int) -> Arrays:
        """The tensors as arrays of their own: the memory is free then. Raises Lost for what cannot be."""
        arrays = {}
        at = 0
        for spec in specs:
            offset, size, axes = self._numbers(at, 3, filled)
            if not 0 <= axes <= MOST_AXES:
                raise Lost(f"{spec.name!r} has {axes} axes")
            shape = self._numbers(at + 24, axes, filled)
            at += 8 * (3 + axes)
            arrays[spec.name] = self._tensor(spec, offset, size, list(shape), filled)
        return arrays

    def look(self, size: int) -> None:
        """See all of a memory that the other side has let grow. Raises Lost when it has not."""
        if size > len(self.view):
            if size > min(os.fstat(self.descriptor).st_size, MOST_BYTES):
                raise Lost(f"a memory of {size} bytes is announced, but it is smaller")
            self.view = mmap.mmap(self.descriptor, size)

    def give_back(self) -> None:
        """Let the system have again what only a large use has taken."""
        if len(self.view) > KEPT_BYTES:
            self.view.madvise(mmap.MADV_REMOVE, KEPT_BYTES, len(self.view) - KEPT_BYTES)

    def close(self) -> None:
        os.close(self.descriptor)
        with suppress(BufferError):  # an exception that somebody keeps may still point into it
            self.view.close()

    def _numbers(self, at: int, count: int, filled: int) -> tuple[int, ...]:
        if at + 8 * count > filled:
            raise Lost("a tensor's description is cut short")
        return struct.unpack_from(f"<{count}q", self.view, at)

    def _tensor(self, spec: TensorSpec, offset: int, size: int, shape: list[int], filled: int) -> Array:
        if offset < 0 or size < 0 or offset + size > filled or min(shape, default=0) < 0:
            raise Lost(f"{spec.name!r} is said to lie outside of what is filled")
        if spec.dtype is Datatype.BYTES:
            try:
                return read_elements(self.view[offset : offset + size], spec.dtype, shape, spec.name)
            except Invalid as error:
                raise Lost(error.message) from error
        dtype = spec.dtype.numpy
        if prod(shape) * dtype.itemsize != size:
            raise Lost(f"{spec.name!r} of shape {shape} cannot have {size} bytes")
        there: Array = np.frombuffer(self.view, dtype, prod(shape), offset)
        return there.reshape(shape).copy()

    def _reserve(self, size: int) -> None:
        if size > MOST_BYTES:
            raise Broken("wrong_output", f"tensors of {size} bytes cannot cross to or from a process: {MOST_BYTES} is the most")
        if size > len(self.view):
            whole = min(MOST_BYTES, 1 << (size - 1).bit_length())
            os.ftruncate(self.descriptor, max(whole, os.fstat(self.descriptor).st_size))
            self.view = mmap.mmap(self.descriptor, whole)


class Line:
    """One side of the conversation: ``ours`` is written here, ``theirs`` is read."""

    def __init__(self, connection: socket.socket, ours: Memory, theirs: Memory) -> None:
        self.connection = connection
        self.ours = ours
        self.theirs = theirs

    def say(self, word: Word, filled: int) -> None:
        """Announce what ``ours`` holds. Raises Lost."""
        try:
            self.connection.send(HEADER.pack(word, filled, len(self.ours.view)))
        except OSError as error:
            raise Lost(str(error)) from error

    def tell(self, word: Word, fields: Any) -> None:
        """Send a JSON document. Raises Lost."""
        self.say(word, self.ours.write(msgspec.json.encode(fields, enc_hook=str)))

    def hear(self) -> tuple[Word, int]:
        """Wait for the other side: what has come, and how much of ``theirs`` it fills. Raises Lost."""
        try:
            data = self.connection.recv(HEADER.size)
        except OSError as error:
            raise Lost(str(error)) from error
        if len(data) != HEADER.size:
            raise Lost("the other side has hung up")
        number, filled, size = HEADER.unpack(data)
        word = _WORDS.get(number)
        self.theirs.look(size)
        if filled > len(self.theirs.view) or word is None:
            raise Lost("a header says what cannot be")
        return word, filled

    def close(self) -> None:
        self.connection.close()
        self.ours.close()
        self.theirs.close()


def _plain(array: Array) -> Array:
    """What can be copied as it is: the elements of a BYTES tensor become one run of bytes."""
    return np.frombuffer(write_elements(array), np.uint8) if array.dtype == object else array
