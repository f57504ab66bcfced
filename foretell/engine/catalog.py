"""The engines that are being served, by model name and version, and the labels that point at versions."""

from collections.abc import Callable, Iterator, Mapping

from foretell.engine.engine import Engine
from foretell.errors import Missing, Unavailable


class Catalog:
    """Engines by name and version; ``watch`` tells a mode of every change."""

    def __init__(self) -> None:
        self.complete = False  # whether everything that the server was started with is ready
        self._models: dict[str, dict[str, Engine]] = {}
        self._labels: dict[str, dict[str, str]] = {}
        self._watchers: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[Engine]:
        return (engine for versions in self._models.values() for engine in versions.values())

    def watch(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called now, and whenever an engine comes or goes."""
        self._watchers.append(changed)
        changed()

    def add(self, engine: Engine) -> Engine | None:
        """Serve an engine that has been started; gives the one whose name and version it takes over, if there was one."""
        versions = self._models.setdefault(engine.name, {})
        before = versions.get(engine.version)
        versions[engine.version] = engine
        self._tell()
        return before

    def remove(self, name: str, version: str) -> Engine:
        """Serve an engine no longer; what it has accepted is still its own to answer. Raises Missing."""
        engine = self.find(name, version)
        del self._models[name][version]
        if not self._models[name]:
            del self._models[name]
        self._tell()
        return engine

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Let these labels of a model, and no others, each point at a version."""
        if self._labels.get(name, {}) != labels:
            self._labels[name] = dict(labels)
            self._tell()

    def labels(self, name: str) -> dict[str, str]:
        """The versions that a model's labels point at, of those that are served. Raises Missing."""
        served = self.versions(name)
        return {label: version for label, version in self._labels.get(name, {}).items() if version in served}

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()

    def versions(self, name: str) -> list[str]:
        """The versions of a model that are served, oldest first. Raises Missing."""
        if name not in self._models:
            raise Missing("unknown_model", f"there is no model {name[:128]!r} here: see /docs for those that are")
        return sorted(self._models[name], key=int)

    def find(self, name: str, version: str | None = None, label: str | None = None) -> Engine:
        """The engine of a version or of a label's; without either, of the newest version that is ready.

        Raises Missing ``unknown_model``, ``unknown_version`` or ``unknown_label``, or Unavailable when it is not ready.
        """
        versions = self.versions(name)
        if label is not None:
            version = self._labelled(name, label)
        if version is None:
            version = next((each for each in reversed(versions) if self._models[name][each].ready), versions[-1])
        engine = self._models[name].get(version)
        if engine is None:
            has = ", ".join(versions)
            raise Missing("unknown_version", f"model {name!r} has no version {str(version)[:32]!r}: it has {has}")
        if not engine.ready:
            raise Unavailable("not_ready", f"model {name!r} is not ready yet: try again", retry_after_s=1)
        return engine

    def _labelled(self, name: str, label: str) -> str:
        labels = self.labels(name)
        if label not in labels:
            has = ", ".join(sorted(labels)) or "none"
            raise Missing("unknown_label", f"model {name!r} has no label {label[:128]!r}: it has {has}")
        return labels[label]
