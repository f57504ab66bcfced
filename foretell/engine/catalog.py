"""The engines that are being served, by model name and version, the labels that point at versions, and who answers without."""

import logging
from collections.abc import Callable, Iterator, Mapping

from foretell.comparison import Compared, Comparison
from foretell.engine.engine import Engine
from foretell.engine.shadow import Shadow
from foretell.engine.traffic import Traffic
from foretell.errors import ForetellError, Missing, Unavailable
from foretell.repository.split import Split

log = logging.getLogger("foretell")


def _untold(comparison: Comparison) -> None:
    """For a catalog without metrics."""


class Catalog:
    """Engines by name and version; ``watch`` tells a mode of every change, and ``compared`` is told of copies for shadows."""

    def __init__(self, compared: Compared = _untold) -> None:
        self.compared = compared
        self.complete = False  # whether everything that the server was started with has been loaded
        self.lacking: set[str] = set()  # models that are to be served, but were lost on disk when a worker had to take over
        self._models: dict[str, dict[str, Engine]] = {}
        self._labels: dict[str, dict[str, str]] = {}
        self._splits: dict[str, Split] = {}
        self._traffic: dict[str, Traffic] = {}
        self._shadows: dict[str, Shadow] = {}
        self._watchers: list[Callable[[], None]] = []
        self.absent: Callable[[str], ForetellError | None] = lambda name: None  # why a model is not here, if that is known
        self.wanted: Callable[[str], None] = lambda name: None  # told of a model that is to answer, and is not here

    def __iter__(self) -> Iterator[Engine]:
        return (engine for versions in self._models.values() for engine in versions.values())

    def outages(self) -> dict[tuple[str, str], str]:
        """Why models whose own process is down do not answer at this moment, by name and version."""
        return {(each.name, each.version): each.outage for each in self if each.outage is not None}

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
        engine = self._models.get(name, {}).get(version)
        if engine is None:
            raise Missing("unknown_version", f"model {name[:128]!r} has no version {version[:32]!r} here")
        del self._models[name][version]
        if not self._models[name]:
            del self._models[name]
        self._tell()
        return engine

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Let these labels of a model, and no others, each point at a version."""
        if self._labels.get(name, {}) != labels:
            self._labels[name] = dict(labels)
            told = ", ".join(f"{label} is version {version}" for label, version in labels.items())
            log.info("model %s: labels: %s", name, told or "none any more")
            self._tell()

    def labels(self, name: str) -> dict[str, str]:
        """The versions that a model's labels point at, of those that are served. Raises Missing."""
        served = self.versions(name)
        return {label: version for label, version in self._labels.get(name, {}).items() if version in served}

    def split(self, name: str, split: Split | None) -> None:
        """Say who answers what names no version of a model; None for the newest."""
        if split != self._splits.get(name):
            self._splits.pop(name, None)
            if split is not None:
                self._splits[name] = split
            log.info("model %s: %s", name, split or "its newest version answers what names none")
            self._tell()

    def traffic(self, name: str) -> Traffic | None:
        """Who answers what names no version of a model, where that is not simply the newest."""
        return self._traffic.get(name)

    def pick(self, name: str, key: str | None = None) -> Engine:
        """The engine for one request that names no version; ``key`` is the value of the header that is sticky.

        Raises as ``find``.
        """
        traffic = self._traffic.get(name)
        return self.find(name, None if traffic is None else traffic.pick(key))

    def _tell(self) -> None:
        self._shadows = {name: shadow for name, shadow in self._shadows.items() if name in self._models}
        self._traffic = {name: traffic for name in self._models if (traffic := self._share(name)) is not None}
        for changed in self._watchers:
            changed()

    def _share(self, name: str) -> Traffic | None:
        """Wire a model's split to the engines that are there; a version that is not takes no part."""
        split, engines = self._splits.get(name), self._models[name]
        shadow = None if split is None else self._shadow(name, engines.get(split.shadow))
        weights = {version: weight for version, weight in split.weights.items() if version in engines} if split else {}
        for version, engine in engines.items():
            engine.after = shadow.take if shadow is not None and version in weights else None
        return Traffic(weights, split.sticky) if split is not None and weights else None

    def _shadow(self, name: str, engine: Engine | None) -> Shadow | None:
        """The one that sends copies to this engine: what waits in it goes on when other engines change."""
        if engine is None:
            self._shadows.pop(name, None)
            return None
        before = self._shadows.get(name)
        if before is None or before.engine is not engine:
            self._shadows[name] = Shadow(engine, self.compared)
        return self._shadows[name]

    def call(self, name: str) -> None:
        """Say that a model is to answer a request: one that made room for others is loaded again then."""
        if name not in self._models:
            self.wanted(name)

    def versions(self, name: str) -> list[str]:
        """The versions of a model that are served, oldest first. Raises Missing, or Unavailable for one that is to come."""
        if name not in self._models:
            if name in self.lacking:
                text = f"model {name!r} cannot be loaded as it is on disk now: an administrator can correct it and load it"
                raise Unavailable("not_ready", text, retry_after_s=60)
            why = self.absent(name)
            if why is not None:
                raise why
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
        if engine.given_up:
            raise Unavailable("model_given_up", f"model {name!r} crashed again and again, and was given up", retry_after_s=60)
        if not engine.ready:
            raise Unavailable("not_ready", f"model {name!r} is not ready yet: try again", retry_after_s=1)
        return engine

    def _labelled(self, name: str, label: str) -> str:
        labels = self.labels(name)
        if label not in labels:
            has = ", ".join(sorted(labels)) or "none"
            raise Missing("unknown_label", f"model {name!r} has no label {label[:128]!r}: it has {has}")
        return labels[label]
