"""Record batches of any size as tables of one size."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa


def rechunk(batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """Tables of ``rows`` rows, the last with the rest. Nothing is copied; a batch is let go with its last row."""
    held: deque[Any] = deque()
    count = 0
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
            count += batch.num_rows
        while count >= rows:
            yield _take(held, rows)
            count -= rows
    if count:
        yield _take(held, count)


def _take(held: deque[Any], rows: int) -> Any:
    taken = []
    while rows:
        batch = held.popleft()
        taken.append(batch.slice(0, rows))
        if batch.num_rows > rows:
            held.appendleft(batch.slice(rows))
        rows -= taken[-1].num_rows
    return pa.Table.from_batches(taken)
