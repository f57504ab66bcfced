"""The HTTP application as a deployment of Ray Serve: ``serve run foretell.modes.ray:app models=models/``.

https://docs.ray.io/en/latest/serve/http-guide.html
"""

from collections.abc import Callable, Mapping
from typing import Any

from foretell.modes.ray.actors import Factory
from foretell.plugins import needs_extra

APPLICATION = "foretell.asgi:open_app"
"""What makes the application in each replica. It is named and not imported, for it lies above the modes."""
NAME = "foretell"


def app(arguments: Mapping[str, str]) -> Any:
    """A Serve application for ``serve run`` and ``serve.run``, with every model loaded in each replica.

    ``arguments`` are those of ``foretell.asgi.open_app``: ``models``, a path, and if wanted ``config``, ``name`` and ``host``;
    and ``replicas``, how many there are of it. Raises Setup ``missing_extra``.
    """
    with needs_extra("a deployment of Ray Serve", "ray"):
        from ray import serve
    given = dict(arguments)
    replicas = int(given.pop("replicas", 1))
    ingress = serve.ingress(builder(Factory(APPLICATION, given)))()
    return serve.deployment(ingress, name=NAME, num_replicas=replicas).bind()


def builder(factory: Factory) -> Callable[[], Any]:
    """A function that Serve calls in each replica; only the factory's words go there."""

    def build() -> Any:
        return factory.make()

    return build
