"""One row measured on one server: the closed loop of ``foretell bench``, and what the server used meanwhile."""

import json
import math
import socket
from dataclasses import dataclass
from functools import partial

import numpy as np
from models import SHAPES
from servers import Running

from foretell.bench.figures import summarize
from foretell.bench.http1 import HttpLink, write_request
from foretell.bench.http2 import GrpcLink, write_headers, write_message
from foretell.bench.load import Load
from foretell.bench.network import GOOD, Address, Sockets
from foretell.errors import ForetellError

WARM_UP = 0.25  # of the seconds of a run, before them
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Row:
    """A line of the table: one model, one protocol, so many clients with one request at a time, so many workers."""

    model: str
    door: str
    clients: int
    workers: int = 1

    @property
    def name(self) -> str:
        return f"{self.model}-{self.door}-{self.clients}c-{self.workers}w"


@dataclass
class Figure:
    """What one run came to. Times in microseconds, memory in bytes; ``generator`` is the share of a core of the load."""

    rate: float
    p50: float
    p99: float
    p999: float
    cpu_per_1000: float
    memory: float
    generator: float
    failed: int


def body_of(model: str, door: str) -> bytes:
    """One request of one row, the same for every server."""
    shape = [1, *SHAPES[model]]
    values = np.random.default_rng(0).random(math.prod(shape), dtype=np.float32).round(4)
    tensor = {"name": "input", "shape": shape, "datatype": "FP32"}
    if door == "grpc":
        from foretell.modes.grpc.stubs.inference_pb2 import ModelInferRequest

        described = [ModelInferRequest.InferInputTensor(**tensor)]
        return ModelInferRequest(model_name="m", inputs=described, raw_input_contents=[values.tobytes()]).SerializeToString()
    if door == "json":
        return json.dumps({"inputs": [{**tensor, "data": [round(value, 4) for value in values.tolist()]}]}).encode()
    tensor["parameters"] = {"binary_data_size": values.nbytes}
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": "output", "parameters": {"binary_data": True}}]}).encode()
    return head + values.tobytes()


class Asker:
    """Sends one row's request to a server, over connections of its own."""

    def __init__(self, model: str, door: str) -> None:
        self.door = door
        self.body = body_of(model, door)
        self.head_bytes = len(self.body) - math.prod(SHAPES[model]) * 4

    def network(self, found: Running) -> Sockets:
        room = bytearray(2**18)
        address = Address("127.0.0.1", found.grpc if self.door == "grpc" else found.port)
        if self.door == "grpc":
            made = partial(GrpcLink, write_headers(str(address), METHOD), [write_message(self.body)], room)
            return Sockets(address, made)
        headers = {"Content-Type": "application/json"}
        if self.door == "binary":
            kind = "application/octet-stream"
            headers = {"Content-Type": kind, "Inference-Header-Content-Length": str(self.head_bytes)}
        return Sockets(address, partial(HttpLink, [write_request(str(address), found.server.path, self.body, headers)], room))

    def answers(self, found: Running) -> bool:
        """Whether the server gives one good answer by now."""
        port = found.grpc if self.door == "grpc" else found.port
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return False
        try:
            network = self.network(found)
            link = network.open()
            link.ask(0)
            ends = network.clock() + 10.0
            outcome = ""
            while not outcome and network.clock() < ends:
                for heard in network.wait(0.1):
                    outcome = heard.hear()
            network.close()
        except ForetellError:
            return False
        return outcome in GOOD

    def measure(self, found: Running, clients: int, seconds: float) -> Figure:
        """One run. What was asked while it warmed up is left out: that is when its connections are made."""
        warm_s = max(seconds * WARM_UP, 0.1)
        before = found.cpu_s()
        samples = Load(self.network(found)).run_closed(clients, warm_s + seconds)
        used = found.cpu_s() - before
        if samples.interrupted:
            raise KeyboardInterrupt
        if not samples.took:
            return Figure(*[float("nan")] * 7, failed=len(samples.failed))
        told = summarize(samples, warm_s)
        p50, p99, p999 = (told.latency_s[name] * 1e6 for name in ("p50", "p99", "p99.9"))
        each = used / len(samples.took) * 1e3
        return Figure(told.rate, p50, p99, p999, each, found.memory_bytes(), told.cpu, len(samples.failed))
