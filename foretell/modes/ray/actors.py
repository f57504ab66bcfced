"""Pieces of work on a cluster: texts that say what to do, each run by one of many actors, which give texts back.

What runs them is named, not sent: an actor calls a function of a package that is installed on its machine. A piece that was
lost with its machine is run again elsewhere, so that it must do no harm to run one twice.
https://docs.ray.io/en/latest/data/api/doc/ray.data.ActorPoolStrategy.html
"""

import importlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from foretell.codes import CODES
from foretell.errors import ForetellError
from foretell.modes.ray.cluster import Cluster, connected, lost

Work = Callable[[str], str]
"""Runs one piece. It may raise ForetellError, which ends the whole."""
PIECE, ANSWER, REFUSAL = "piece", "answer", "refusal"
_CLASSES = {kind.kind.name: kind for kind, _, _ in CODES.values()}


@dataclass(frozen=True)
class Factory:
    """A function by its name, ``package.module:function``, and the arguments that it is called with, JSON-ready.

    It gives what runs a piece, and is called once by each actor: it opens the model, say.
    """

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(**self.arguments)


class Actor:
    """What Ray Data makes on every machine: batches of one piece in, batches of one answer or refusal out."""

    def __init__(self, function: str, arguments: str) -> None:
        self.factory = Factory(function, json.loads(arguments))
        self.work: Work | None = None

    def __call__(self, batch: Mapping[str, Any]) -> Mapping[str, list[str]]:
        (piece,) = batch[PIECE]
        try:
            if self.work is None:  # not when it is made: a refusal would be one of Ray's, who would try again and again
                self.work = self.factory.make()
            return {ANSWER: [self.work(str(piece))], REFUSAL: [""]}
        except ForetellError as error:
            return {ANSWER: [""], REFUSAL: [json.dumps([error.kind.name, error.code, error.message])]}


def run(factory: Factory, pieces: Iterable[str], cluster: Cluster = Cluster()) -> Iterator[str]:  # noqa: B008 - it is frozen
    """The answer to every piece, in the order in which they are ready; those of a machine that is lost come from another.

    Raises ForetellError that the work raised, and Unavailable ``lost_cluster``, Setup ``missing_extra``.
    """
    todo = [{PIECE: piece} for piece in pieces]
    if not todo:
        return
    with connected(cluster) as actors:
        import ray

        try:
            for row in _pooled(factory, todo, actors).iter_rows():
                if row[REFUSAL]:
                    kind, code, message = json.loads(row[REFUSAL])
                    raise _CLASSES[kind](code, message)
                yield row[ANSWER]
        except ray.exceptions.RayError as error:
            raise lost(cluster.address, str(error.__cause__ or error)) from error


def _pooled(factory: Factory, todo: list[dict[str, str]], actors: int) -> Any:
    """A dataset of answers, one block for each piece. Idle actors make room for those that a lost machine had."""
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # else it warns that there are no progress bars
    ray.data.DataContext.get_current().enable_progress_bars = False
    given = {"function": factory.function, "arguments": json.dumps(dict(factory.arguments))}
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=min(actors, len(todo)))
    pieces = ray.data.from_items(todo, override_num_blocks=len(todo))
    return pieces.map_batches(Actor, batch_size=1, compute=pool, num_cpus=1, fn_constructor_kwargs=given)
