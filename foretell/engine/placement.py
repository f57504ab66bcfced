"""Where a model's forwards run: in the event loop when they are short, in a thread when long."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from foretell.engine.batcher import Outcome


class Inline:
    """In the event loop: no hop, for forwards that are shorter than a hop is worth."""

    name = "inline"
    is_apart = False

    def run(self, work: Callable[[], list[Outcome]], done: Callable[[list[Outcome]], None]) -> None:
        done(work())

    def close(self) -> None:
        pass


class Threaded:
    """In a thread of its own: runtimes release the GIL, and the loop goes on."""

    name = "thread"
    is_apart = True

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
