"""What runs the shards of ``foretell predict`` in place of threads of this process."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foretell.modes.files import Done, Executor, Shard, Task
    from foretell.modes.ray import Cluster

REMOTE = "foretell.modes.files.remote:open_remote"


def on_ray(cluster: "Cluster", fingerprints: Mapping[str, str]) -> "Executor":
    """Shards on a cluster, whose machines have to find models, rows and answers under the same paths.

    It raises as ``foretell.modes.ray.run`` does.
    """
    from foretell.modes.files import Done, from_json
    from foretell.modes.files.remote import shard_text, work_text
    from foretell.modes.ray import Factory, run

    def execute(task: "Task", shards: "Iterable[Shard]") -> "Iterator[Done]":
        factory = Factory(REMOTE, {"work": work_text(task.work), "fingerprints": dict(fingerprints)})
        for answer in run(factory, map(shard_text, shards), cluster):
            yield from_json(answer.encode(), Done)

    return execute
