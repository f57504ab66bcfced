"""The engines that are being served, by model name and version."""

from collections.abc import Callable, Iterator

from foretell.engine.engine import Engine
from foretell.errors import Missing, Unavailable


class Catalog:
    """Engines by name and version; ``watch`` tells a mode of every change."""

    def __init__(self) -> None:
        self.complete = False  # whether everything that the server was started with is ready
        self._models: dict[str, dict[str, Engine]] = {}
        self._watchers: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[Engine]:
        return (engine for versions in self._models.values() for engine in versions.values())

    def watch(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called now, and whenever an engine comes or goes."""
        self._watchers.append(changed)
        changed()

    def add(self, engine: Engine) -> None:
        """Serve an engine that has been started."""
        self._models.setdefault(engine.name, {})[engine.version] = engine
        self._tell()

    def remove(self, name: str, version: str) -> Engine:
        """Serve an engine no longer; what it has accepted is still its own to answer. Raises Missing."""
        engine = self.find(name, version)
        del self._models[name][version]
        if not self._models[name]:
            del self._models[name]
        self._tell()
        return engine

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()

    def versions(self, name: str) -> list[str]:
        """The versions of a model that are served, oldest first. Raises Missing."""
        if name not in self._models:
            raise Missing("unknown_model", f"there is no model {name[:128]!r} here: see /docs for those that are")
        return sorted(self._models[name], key=int)

    def find(self, name: str, version: str | None = None) -> Engine:
        """The engine of a version, or of the newest one. Raises Missing, or Unavailable while it is not ready."""
        versions = self.versions(name)
        engine = self._models[name].get(versions[-1] if version is None else version)
        if engine is None:
            has = ", ".join(versions)
            raise Missing("unknown_version", f"model {name!r} has no version {str(version)[:32]!r}: it has {has}")
        if not engine.ready:
            raise Unavailable("not_ready", f"model {name!r} is not ready yet: try again", retry_after_s=1)
        return engine
