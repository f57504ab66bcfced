"""How long the model takes, as measured: so how long a newcomer would wait, and how many rows are worth a call."""

FALL, RISE = 0.5, 0.2  # weight of a new measurement below and above the mean
MOST_STEP = 2.0  # a call is taken to cost at most so many times what its rows cost in the latest smaller one
MOST_RISE = 4.0  # a measurement counts for at most so many times the mean: one outlier moves little, a slower model is learnt
LONG_S = 0.01  # calls are not made shorter than this by taking fewer rows
AS_GOOD = 1.04  # a row of a smaller call may cost so many times one of a larger
AGAIN = 64  # after so many smaller calls a larger one is tried again: it may have become cheaper


class ServiceTime:
    """The mean seconds of a call, by its rows: 1, 2, up to 4, up to 8, ... up to ``most_rows``.

    No size is taken to cost more than a larger one does, and one above all that were measured no more than those: an estimate
    that errs lets in. Each call bounds what larger ones are taken to cost: one that was slow once might never be tried again.
    ``longest_s`` is the longest of the means; 0.0 when nothing was measured.
    """

    def __init__(self, most_rows: int) -> None:
        self.most_rows = most_rows
        self.longest_s = 0.0
        self._means = [0.0] * ((most_rows - 1).bit_length() + 1)
        self._row_s = [0.0] * len(self._means)
        self._smaller = 0  # calls in a row that were made smaller

    def learn(self, rows: int, seconds: float) -> None:
        """Count a call; one of more rows than ``most_rows`` was made in parts."""
        if rows > self.most_rows:
            seconds /= -(-rows // self.most_rows)
            rows = self.most_rows
        size = (rows - 1).bit_length()
        before = self._means[size]
        if seconds <= before:
            mean = before + (seconds - before) * FALL
        elif before:
            mean = before + (min(seconds, before * MOST_RISE) - before) * RISE
        else:
            mean = seconds
        self._means[size] = mean
        for larger in range(size + 1, len(self._means)):
            self._means[larger] = min(self._means[larger], mean * MOST_STEP * 2 ** (larger - size))
        self.longest_s = max(self._means)
        row_s = self._row_s[size]
        self._row_s[size] = row_s + (seconds / rows - row_s) * RISE if row_s else seconds / rows

    def worth(self, rows: int) -> int:
        """How many of the ``rows`` that wait a call should take: half, while a row costs no more then and the call stays long.

        The first are answered sooner so, and the others are there when the model is free: it does not idle while the next come.
        """
        if self.longest_s < LONG_S or self._smaller >= AGAIN:
            self._smaller = 0
            return self.most_rows
        taken = rows = min(rows, self.most_rows)
        while (half := (taken + 1) // 2) < taken and self._one(taken) >= 2 * LONG_S and self._is_as_good(half, taken):
            taken = half
        self._smaller = self._smaller + 1 if taken < rows else 0
        return taken

    def _is_as_good(self, half: int, rows: int) -> bool:
        """Whether a row costs no more in a call of half as many; that is tried once where it is not known."""
        smaller, larger = (self._row_s[(count - 1).bit_length()] for count in (half, rows))
        return larger > 0.0 and smaller <= larger * AS_GOOD

    def expect(self, rows: int) -> float:
        """The seconds that this many rows will take, in as many calls as they need; 0.0 when nothing was measured."""
        calls, rest = divmod(rows, self.most_rows)
        return calls * self._one(self.most_rows) + (self._one(rest) if rest else 0.0)

    def left(self, rows: int, elapsed: float) -> float:
        """The seconds until a call ends that has run for ``elapsed``; one that is late may take as long again as it is late."""
        return abs(self.expect(rows) - elapsed)

    def _one(self, rows: int) -> float:
        size = (rows - 1).bit_length()
        larger = [mean for mean in self._means[size:] if mean]
        return min(larger) if larger else max(self._means[:size], default=0.0)
