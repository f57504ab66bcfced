"""The Ray mode: pieces of work by the actors of Ray Data, and the HTTP application as a deployment of Ray Serve."""

from foretell.modes.ray.actors import Factory, run
from foretell.modes.ray.cluster import Cluster
from foretell.modes.ray.serve import app

__all__ = ["Cluster", "Factory", "app", "run"]
