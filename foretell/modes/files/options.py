"""What one run may be asked for, besides its settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foretell.modes.files.executor import Executor
    from foretell.modes.files.progress import Progress


@dataclass(frozen=True)
class Options:
    """The wishes of one run.

    ``map`` gives an input another column. ``keep`` are columns of the input that are passed on, ``("*",)`` all of them.
    ``where`` is an expression that rows must pass, ``sample`` the share of rows that is drawn by ``seed``, ``limit`` how many
    rows, from the first, are looked at. ``format`` is that of the files of a folder of answers. ``restart`` forgets what an
    unfinished run has done. ``progress`` is called with what has been done so far, by one thread at a time; ``bar`` shows it
    on a terminal. ``only`` is the file of errors of another run over the same input, whose rows alone are answered.
    ``executor`` runs the shards, if not threads here. ``models`` are the paths of the models by name, for
    other processes to open them; ``fingerprints`` are digests of them: a run is not taken up again with another model.
    """

    map: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    where: str = ""
    limit: int | None = None
    sample: float = 1.0
    seed: int = 0
    only: str = ""
    format: str = ""
    restart: bool = False
    bar: bool = False
    progress: "Callable[[Progress], None] | None" = None
    executor: "Executor | None" = None
    models: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
