"""A real Ray cluster of two machines on this one, each with one CPU; all of it ends with the process that it has."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = """
import sys
from ray.cluster_utils import Cluster
small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}

def started(start, *arguments, **keywords):
    for tries_left in (2, 1, 0):  # Ray gives a node 30 s to start, which a busy machine may not keep
        try:
            return start(*arguments, **keywords)
        except Exception:
            if not tries_left:
                raise

cluster = started(Cluster, initialize_head=True, head_node_args={"include_dashboard": False, **small})
nodes = []
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "add\\n":
        nodes.append(started(cluster.add_node, **small))
    else:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("done", flush=True)
cluster.shutdown()
"""

SLOW = """
import time
import foretell

@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32"})
def model(inputs):
    time.sleep(0.1)
    return {"y": inputs["x"].sum(axis=1)}
"""


@dataclass(frozen=True)
class Nodes:
    """``address`` is the head's; ``environ`` is for what connects to it: tokens lie in a home of their own."""

    address: str
    environ: dict[str, str]
    process: subprocess.Popen[str]

    def tell(self, order: str) -> None:
        """``add`` a machine, or ``kill`` the last one that came."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        while self.process.stdout.readline() not in ("done\n", ""):
            continue


@contextmanager
def two_nodes(home: Path) -> Iterator[Nodes]:
    environ = {**os.environ, "HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0", "RAY_NUM_REDIS_GET_RETRIES": "100"}
    pipe = subprocess.PIPE
    with (home / "cluster.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=pipe, stdout=pipe, stderr=log, text=True, env=environ)
    assert process.stdout is not None
    assert process.stdin is not None
    with process:
        address = next(line.strip() for line in process.stdout if ":" in line)
        nodes = Nodes(address, environ, process)
        try:
            nodes.tell("add")
            yield nodes
        finally:
            process.stdin.close()
            process.wait(60)
