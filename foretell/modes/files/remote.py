"""Shards in other processes, which open the models for themselves; all that goes between them is JSON."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from foretell.errors import Setup
from foretell.modes.files.run import open_runner
from foretell.modes.files.several import combine
from foretell.modes.files.shard import Shard, Work, from_json, to_json
from foretell.repository import find_model, open_pipeline
from foretell.repository.fingerprint import fingerprint


def open_remote(work: str, fingerprints: Mapping[str, str]) -> Callable[[str], str]:
    """What runs shards of a work by its own copy of the models, which have to be those that the run was begun with.

    Raises Setup, as for any model, and ``changed_run`` when a model is another one here.
    """
    found = {name: find_model(path) for name, path in from_json(work.encode(), Work).models.items()}
    for name, source in found.items():
        if name in fingerprints and fingerprint(source) != fingerprints[name]:
            raise Setup("changed_run", f"{source.path} is another model on this machine: copy it anew, then run it again")
    runner = open_runner(work.encode(), combine({name: open_pipeline(source) for name, source in found.items()}))
    return lambda shard: runner(shard.encode()).decode()


def work_text(work: Work) -> str:
    """The JSON of a work, with the paths as any process finds them, wherever it was started."""
    models = {name: _absolute(path) for name, path in work.models.items()}
    target = _absolute(work.target) if work.target else ""
    return to_json(replace(work, models=models, parts=_absolute(work.parts), target=target)).decode()


def shard_text(shard: Shard) -> str:
    """The JSON of a shard, in the same way."""
    return to_json(replace(shard, file=_absolute(shard.file))).decode()


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())
