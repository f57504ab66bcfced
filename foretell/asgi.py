"""The HTTP application for any ASGI host: it loads its models when the host starts it, and closes them when that ends."""

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from foretell.assemble import Service, close_all, find_all
from foretell.settings import Settings, load_settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def open_app(models: str, config: str = "", name: str = "", host: str = "") -> "Application":
    """The application of the models at a path, with the settings of a TOML file. Nothing is loaded until it is started.

    ``host`` is where the host listens: on 127.0.0.1, the default, names of other machines are refused. Raises Setup.
    """
    settings, _ = load_settings(Path(config) if config else None, {}, {"host": host or None})
    return Application(Path(models), name or None, settings)


class Application:
    """An ASGI application. The host has to speak its lifespan, https://asgi.readthedocs.io/en/latest/specs/lifespan.html."""

    def __init__(self, path: Path, name: str | None, settings: Settings) -> None:
        self.path = path
        self.name = name
        self.settings = settings
        self.service: Service | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self.service is not None:
            scope.setdefault("raw_path", scope["path"].encode())
            await self.service.http(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.service = service = Service(self.settings)
        await service.loader.start(find_all([self.path], self.name), None, None)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await close_all(service)
        await send({"type": "lifespan.shutdown.complete"})
