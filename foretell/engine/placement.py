"""Where a model's forwards run: in the event loop when they are short, in a thread when long. Measured, not guessed."""

import asyncio
import logging
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from foretell.backends import Backend
from foretell.engine.batcher import Outcome
from foretell.tensors import Array, Arrays, Datatype, Signature

log = logging.getLogger("foretell")
UNKNOWN_LENGTHS = (1, 8, 32, 224)  # tried in turn for axes of any length: some models refuse very short ones
ENOUGH_S = 0.05  # one forward as long as this needs no second measurement


class Inline:
    """In the event loop: no hop, for forwards that are shorter than a hop is worth."""

    name = "inline"

    def run(self, work: Callable[[], list[Outcome]], done: Callable[[list[Outcome]], None]) -> None:
        done(work())

    def close(self) -> None:
        pass


class Threaded:
    """In a thread of its own: runtimes release the GIL, and the loop goes on."""

    name = "thread"

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="forward")

    def run(self, work: Callable[[], list[Outcome]], done: Callable[[list[Outcome]], None]) -> None:
        loop = asyncio.get_running_loop()

        def hand_back(future: Future[list[Outcome]]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, future.result())

        self._pool.submit(work).add_done_callback(hand_back)

    def close(self) -> None:
        self._pool.shutdown(wait=False)


@dataclass(frozen=True)
class WarmUp:
    """What warming a model showed: seconds of its first and of a usual forward of one row.

    ``forward_s`` is None when every made-up row was refused; ``refusal`` is then the model's own last word.
    """

    first_s: float
    forward_s: float | None
    refusal: str | None = None


def warm_up(model: Backend, most_rows: int) -> WarmUp:
    """Run the model on made-up rows, alone and in its largest batch, before the first caller waits for it."""
    refusal = None
    for length in UNKNOWN_LENGTHS:
        try:
            first_s = _timed(model, made_up_rows(model.signature, 1, length))
            rows = made_up_rows(model.signature, 1, length)
            times = [first_s] if first_s > ENOUGH_S else []
            while len(times) < 7 and sum(times) < ENOUGH_S:
                times.append(_timed(model, rows))
            if model.signature.rows and statistics.median(times) * most_rows < ENOUGH_S:
                _timed(model, made_up_rows(model.signature, most_rows, length))
            return WarmUp(first_s, statistics.median(times))
        except Exception as error:  # noqa: BLE001 - a made-up row may be one that this model cannot take
            refusal = f"{type(error).__name__}: {error}"[:500]
    log.warning("the model refuses every made-up row, and could not be warmed up: %s", refusal)
    return WarmUp(0.0, None, refusal)


def choose_place(warm: WarmUp, inline_below_us: float) -> Inline | Threaded:
    """Inline for a forward shorter than the limit; a thread for a longer one, or one that could not be measured."""
    return Inline() if warm.forward_s is not None and warm.forward_s * 1e6 < inline_below_us else Threaded()


def made_up_rows(signature: Signature, count: int, unknown: int) -> Arrays:
    """``count`` rows of zeros or empty strings that conform to the inputs, axes of any length being ``unknown`` long."""

    def make(dtype: Datatype, shape: tuple[int | None, ...]) -> Array:
        whole = ((count,) if signature.rows else ()) + tuple(unknown if size is None else size for size in shape)
        return np.full(whole, b"" if dtype is Datatype.BYTES else 0, dtype=dtype.numpy)

    return {spec.name: make(spec.dtype, spec.shape) for spec in signature.inputs}


def _timed(model: Backend, rows: Arrays) -> float:
    start = time.perf_counter()
    model.forward(rows)
    return time.perf_counter() - start
