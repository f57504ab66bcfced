"""Every path that a model answers by POST, and the door behind it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.engine.traffic import Traffic
from foretell.errors import Missing
from foretell.modes.http.generate import GenerateDoor
from foretell.modes.http.hosts import HostRoutes, VertexDoor, find_default
from foretell.modes.http.rows import RowDoor
from foretell.modes.http.tensors import TensorDoor
from foretell.modes.http.tfserving import ExamplesDoor, PredictDoor
from foretell.request import Request
from foretell.tensors import Arrays


class Door(Protocol):
    """Reads one kind of body for one engine, and writes the answer to it: JSON, unless the request brings its own frame.

    ``json_only``: whether any other content type is refused before the body is read.
    """

    engine: Engine
    json_only: bool

    def read(self, body: bytes, content_type: bytes, received: float, total_s: float) -> Request: ...

    def write(self, request: Request, outputs: Arrays) -> bytes: ...


AnyDoor = TypeVar("AnyDoor", bound=Door)
Doors = dict[bytes, Door]
Streams = dict[bytes, GenerateDoor]
TORCHSERVE = b"/predictions/"  # what is below may be PUT too, as curl -T does


class SplitDoor(Generic[AnyDoor]):
    """The doors of the versions that share the requests of one path; ``slow``: whether one of them has slow steps."""

    def __init__(self, traffic: Traffic, doors: Mapping[str, AnyDoor]) -> None:
        self.traffic = traffic
        self.doors = doors
        self.slow = any(door.engine.pipeline.slow for door in doors.values())
        self._header = traffic.sticky.encode()

    def pick(self, headers: Iterable[tuple[bytes, bytes]]) -> AnyDoor:
        """The door for a request with these headers."""
        if not self._header:
            return self.doors[self.traffic.pick()]
        values = [value for name, value in headers if name == self._header]
        return self.doors[self.traffic.pick(b",".join(values).decode("latin-1"))]


@dataclass(frozen=True)
class Opened:
    """Doors by raw path: those that answer at once, those that answer in a stream, and of both those with several versions."""

    doors: Doors = field(default_factory=dict)
    streams: Streams = field(default_factory=dict)
    splits: dict[bytes, SplitDoor[Door]] = field(default_factory=dict)
    split_streams: dict[bytes, SplitDoor[GenerateDoor]] = field(default_factory=dict)


def open_doors(catalog: Catalog, hosts: HostRoutes) -> Opened:
    """The doors of all engines.

    Without a number, the newest version of a model answers, or those that share its traffic; one with a label answers by that.
    """
    opened = Opened()
    shared: dict[str, dict[str, tuple[Doors, Streams]]] = {}
    for engine in catalog:
        rows, tensors, generate = RowDoor(engine), TensorDoor(engine), GenerateDoor(engine)
        traffic = catalog.traffic(engine.name)
        for place in _places(engine, catalog):
            doors, streams = _doors(engine.name, place, rows, tensors, generate)
            if place or traffic is None:
                opened.doors.update(doors)
                opened.streams.update(streams)
            elif engine.version in traffic.weights:
                shared.setdefault(engine.name, {})[engine.version] = doors, streams
    for name, versions in shared.items():
        _share(opened, catalog.traffic(name), versions)
    _open_nameless(opened, catalog, hosts)
    return opened


def _doors(name: str, place: bytes, rows: RowDoor, tensors: TensorDoor, generate: GenerateDoor) -> tuple[Doors, Streams]:
    """The doors of one engine at one place."""
    model = name.encode() + place
    doors: Doors = {
        b"/v2/models/%b/infer" % model: tensors,
        b"/v2/models/%b/generate" % model: generate,
        b"/predict/%b" % model: rows,
        b"/v1/models/%b:predict" % model: PredictDoor(rows),
        b"/v1/models/%b:classify" % model: ExamplesDoor(rows, "classify"),
        b"/v1/models/%b:regress" % model: ExamplesDoor(rows, "regress"),
    }
    if not place.startswith(b"/labels"):
        doors[b"%b%b%b" % (TORCHSERVE, name.encode(), place.replace(b"/versions", b""))] = rows
    return doors, {b"/v2/models/%b/generate_stream" % model: generate}


def _places(engine: Engine, catalog: Catalog) -> Iterator[bytes]:
    """The ends of the path that lead to one version of a model."""
    yield b"/versions/" + engine.version.encode()
    if catalog.traffic(engine.name) is not None or catalog.versions(engine.name)[-1] == engine.version:
        yield b""
    for label, version in catalog.labels(engine.name).items():
        if version == engine.version:
            yield b"/labels/" + label.encode()


def _share(opened: Opened, traffic: Traffic | None, versions: Mapping[str, tuple[Doors, Streams]]) -> None:
    """Open the paths of one model that several versions share."""
    assert traffic is not None
    doors, streams = next(iter(versions.values()))
    for path in doors:
        opened.splits[path] = SplitDoor(traffic, {version: each[0][path] for version, each in versions.items()})
    for path in streams:
        opened.split_streams[path] = SplitDoor(traffic, {version: each[1][path] for version, each in versions.items()})


def _open_nameless(opened: Opened, catalog: Catalog, hosts: HostRoutes) -> None:
    """Open the doors of hosting platforms, which know of one model only."""
    try:
        path = b"/predict/%b" % find_default(catalog).encode()
    except Missing:
        return  # the page of the same path says what to do
    if path in opened.splits:
        split = opened.splits[path]
        opened.splits[b"/invocations"] = split
        if hosts.vertex_predict:
            vertex = {version: VertexDoor(_rows(door)) for version, door in split.doors.items()}
            opened.splits[hosts.vertex_predict.encode()] = SplitDoor[Door](split.traffic, vertex)
        return
    rows = opened.doors[path]
    opened.doors[b"/invocations"] = rows
    if hosts.vertex_predict:
        opened.doors[hosts.vertex_predict.encode()] = VertexDoor(_rows(rows))


def _rows(door: Door) -> RowDoor:
    assert isinstance(door, RowDoor)
    return door
