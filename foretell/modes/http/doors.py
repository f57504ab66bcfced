"""Every path that a model answers by POST, and the door behind it."""

from collections.abc import Iterator
from typing import Protocol

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
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


Doors = dict[bytes, Door]
Streams = dict[bytes, GenerateDoor]


def open_doors(catalog: Catalog, hosts: HostRoutes) -> tuple[Doors, Streams]:
    """The doors of all engines, and those that answer in a stream, by raw path.

    The newest version of a model also answers without its number, and one that has a label by that.
    """
    doors: Doors = {}
    streams: Streams = {}
    for engine in catalog:
        tensors, rows, generate = TensorDoor(engine), RowDoor(engine), GenerateDoor(engine)
        name = engine.name.encode()
        for place in _places(engine, catalog):
            doors[b"/v2/models/%b%b/infer" % (name, place)] = tensors
            doors[b"/v2/models/%b%b/generate" % (name, place)] = generate
            streams[b"/v2/models/%b%b/generate_stream" % (name, place)] = generate
            doors[b"/predict/%b%b" % (name, place)] = rows
            doors[b"/v1/models/%b%b:predict" % (name, place)] = PredictDoor(rows)
            doors[b"/v1/models/%b%b:classify" % (name, place)] = ExamplesDoor(rows, "classify")
            doors[b"/v1/models/%b%b:regress" % (name, place)] = ExamplesDoor(rows, "regress")
            if not place.startswith(b"/labels"):
                doors[b"/predictions/%b%b" % (name, place.replace(b"/versions", b""))] = rows
    return doors | dict(_nameless(catalog, hosts, doors)), streams


def _places(engine: Engine, catalog: Catalog) -> Iterator[bytes]:
    """The ends of the path that lead to one version of a model."""
    yield b"/versions/" + engine.version.encode()
    if catalog.versions(engine.name)[-1] == engine.version:
        yield b""
    for label, version in catalog.labels(engine.name).items():
        if version == engine.version:
            yield b"/labels/" + label.encode()


def _nameless(catalog: Catalog, hosts: HostRoutes, doors: Doors) -> Iterator[tuple[bytes, Door]]:
    """The doors of hosting platforms, which know of one model only."""
    try:
        rows = doors[b"/predict/%b" % find_default(catalog).encode()]
    except Missing:
        return  # the page of the same path says what to do
    yield b"/invocations", rows
    if hosts.vertex_predict:
        assert isinstance(rows, RowDoor)
        yield hosts.vertex_predict.encode(), VertexDoor(rows)
