"""A body as it comes, on either way in: held in as few pieces as it takes, and joined once."""

ALIGNMENT = 16  # bytes: the elements of every datatype can be used at multiples of it
SMALL = 4096  # bytes: smaller pieces are joined as they come, since each costs memory of its own


class Collected:
    """The pieces that came so far, and how many bytes they are."""

    __slots__ = ("pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[bytes | bytearray] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if len(piece) >= SMALL or not self.pieces:
            self.pieces.append(piece)
        elif isinstance(last := self.pieces[-1], bytearray):
            last += piece
        else:
            self.pieces.append(bytearray(piece))

    def take(self, lead: int | None = None) -> bytes | memoryview:
        """The whole, which is not held any more.

        With binary tensors behind ``lead`` bytes it is memory of its own, in which they can be used where they stand.
        """
        pieces, self.pieces, self.size = self.pieces, [], 0
        if lead is None:
            return b"".join(pieces)
        pad = -lead % ALIGNMENT
        return memoryview(bytearray().join([bytes(pad), *pieces]))[pad:]

    def clear(self) -> None:
        self.pieces.clear()
        self.size = 0
