"""How shards are run: side by side, in whatever order they end, and only as many begun as there are workers."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from foretell.modes.files.run import Task
from foretell.modes.files.shard import Done, Shard

Executor = Callable[[Task, Iterable[Shard]], Iterator[Done]]
"""Runs every shard once and gives what became of each, in any order: by ``task(shard)`` here, elsewhere by ``task.work``."""


@dataclass(frozen=True)
class Threads:
    """Shards in threads of this process: reading, computing and writing let others run meanwhile."""

    workers: int

    def __call__(self, task: Task, shards: Iterable[Shard]) -> Iterator[Done]:
        running: set[Future[Done]] = set()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="predict") as pool:
            try:
                for shard in shards:
                    running.add(pool.submit(task, shard))
                    if len(running) > self.workers:
                        ended, running = wait(running, return_when=FIRST_COMPLETED)
                        yield from (future.result() for future in ended)
                while running:
                    ended, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in ended)
            except BaseException:
                task.stopped.set()
                for future in running:
                    future.cancel()
                raise
