"""Which request makes a process crash.

What was in the model at a crash is suspected, and from then on computed alone. What is answered so is suspected no more; what
was the only suspect in the model at another crash is refused: its neighbours, which come again with it, are not.
"""

from collections.abc import Iterable, Iterator

REFUSED, SUSPECTED = 64, 256  # words of 8 bytes: what is remembered, and one that counts
MOST_CRASHES = 3  # suspects that were not alone there are refused after so many


class Marks:
    """Numbers of 8 bytes, none of them 0, in memory that processes may share. Of too many the oldest is forgotten.

    ``memory[0]`` counts what came, so that others see at a glance whether there is something new.
    """

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory

    @classmethod
    def create(cls, words: int) -> "Marks":
        return cls(memoryview(bytearray(8 * words)).cast("Q"))

    def __iter__(self) -> Iterator[int]:
        return (mark for mark in self.memory[1:].tolist() if mark)

    def add(self, mark: int) -> None:
        if mark not in list(self):
            self.memory[1 + self.memory[0] % (len(self.memory) - 1)] = mark
            self.memory[0] = (self.memory[0] + 1) % 2**64  # a stray write of some model's code may have left anything

    def discard(self, mark: int) -> None:
        for place, each in enumerate(self.memory[1:].tolist(), 1):
            if each == mark:
                self.memory[place] = 0


class Suspicion:
    """Who is suspected and who refused: ``crashed`` when a process has died, ``acquit`` when a suspect was answered.

    Safe from several processes, which may then forget a suspect, and no more than that.
    """

    def __init__(self, suspected: Marks | None = None, refused: Marks | None = None) -> None:
        self.suspected = suspected or Marks.create(SUSPECTED)
        self.refused = refused or Marks.create(REFUSED)
        self._crashes: dict[int, int] = {}

    def crashed(self, marks: Iterable[int]) -> list[int]:
        """Note what was in the model at one crash; gives what is refused from now on."""
        suspected = set(self.suspected)
        self._crashes = {mark: self._crashes.get(mark, 1) for mark in suspected}  # others may have added to them
        present = set(marks)
        again = sorted(present & suspected)
        guilty = again if len(again) == 1 else [mark for mark in again if self._crashes[mark] + 1 >= MOST_CRASHES]
        for mark in guilty:
            self.refused.add(mark)
            self.suspected.discard(mark)
        for mark in present.difference(guilty):
            self.suspected.add(mark)
            self._crashes[mark] = self._crashes.get(mark, 0) + 1
        return guilty

    def acquit(self, mark: int) -> None:
        """A suspect was computed alone, and nothing happened."""
        self.suspected.discard(mark)
