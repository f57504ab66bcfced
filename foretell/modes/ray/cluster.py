"""The cluster that work runs on: one that is there, or one of this machine alone for as long as the work takes."""

import contextlib
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from foretell.cpus import usable_cpus
from foretell.errors import Unavailable
from foretell.plugins import needs_extra

CONNECT_WITHIN_S = 5.0
STORE_BYTES = 128 * 2**20
"""Shared memory of a cluster of our own: what goes through it is small."""
CLIENT = "ray://"


@dataclass(frozen=True)
class Cluster:
    """``address`` is that of a cluster's head, ``HOST:PORT``; ``""`` has one started here, which ends with the work.

    ``actors`` is how many work side by side at most; 0: one for each CPU of the cluster.
    """

    address: str = ""
    actors: int = 0


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[int]:
    """Connected to the cluster, with the number of actors to have there. A connection of the caller's own is used and kept.

    Raises Setup ``missing_extra``, and Unavailable ``lost_cluster`` where there is no cluster.
    """
    with needs_extra("running on Ray", "ray"):
        import ray
        import ray.data
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(cluster)
    try:
        yield cluster.actors or max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if is_ours:
            ray.shutdown()


def _connect(cluster: Cluster) -> None:
    import ray
    from ray._common.usage import usage_lib

    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    if not cluster.address:
        usage_lib.set_usage_stats_enabled_via_env_var(False)  # Ray's own switch: the cluster would report to its makers
        ray.init("local", num_cpus=usable_cpus(), object_store_memory=STORE_BYTES, include_dashboard=False, **quiet)
        return
    _check_listening(cluster.address)
    try:
        ray.init(cluster.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise lost(cluster.address, str(error)) from error


def _check_listening(address: str) -> None:
    """Ray itself would try for a minute. Raises Unavailable."""
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdigit():
        raise lost(address, "an address is HOST:PORT, as `ray start --head` tells it, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_WITHIN_S).close()
    except OSError as error:
        raise lost(address, f"nobody listens there: {error.strerror or error}") from error


def lost(address: str, reason: str) -> Unavailable:
    """The refusal of a cluster that cannot be worked on."""
    said = (reason.strip().splitlines() or ["no reason was told"])[-1][:300]  # the last line of a traceback is the error
    where = f"the Ray cluster at {address}" if address else "the Ray cluster of this machine"
    return Unavailable("lost_cluster", f"{where} cannot be used ({said}): check --address and that it runs, then run it again")
