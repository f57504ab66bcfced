"""Who is measured: a server that runs, or a model at a path, served for the time by a server of its own."""

import contextlib
import http.client
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from foretell.bench.bodies import Model
from foretell.bench.network import GOOD, Address, Network
from foretell.client import Client
from foretell.client.options import Options
from foretell.errors import Setup, Unavailable
from foretell.observe.logs import escape
from foretell.plugins import needs_extra
from foretell.tensors import Datatype

READY_WITHIN_S = 300.0
ANSWER_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0
MOST_BYTES_OF_A_REFUSAL = 2**16
MOST_CHARS_OF_A_REFUSAL = 300


@dataclass(frozen=True)
class Target:
    """Where the load goes, in which protocol ("json", "binary" or "grpc"), to which model. ``http``: None when not known."""

    address: Address
    protocol: str
    model: Model
    http: Address | None = None


@contextlib.contextmanager
def find_target(where: str, protocol: str, model: str | None) -> Iterator[Target]:
    """A target by its URL or path. Raises Setup or Unavailable; a server that was started is stopped at the end."""
    if "://" in where:
        yield _describe(Address.parse(where), protocol, model)
        return
    with served(where, protocol) as (web, grpc):
        name = model or _only_model(web)
        yield replace(_describe(grpc if protocol == "grpc" else web, protocol, name), http=web)


def check_first(network: Network) -> None:
    """Send one request, so that one that is refused is told at once, in a sentence. Raises Unavailable or Setup."""
    link = network.open()
    link.ask(0)
    outcome, ends = "", network.clock() + ANSWER_WITHIN_S
    while not outcome and network.clock() < ends:
        for heard in network.wait(0.1):
            outcome = heard.hear()
    network.close()
    if not outcome:
        raise Unavailable("unreachable", f"the first request was not answered within {ANSWER_WITHIN_S:g} s")
    if outcome not in GOOD:
        text = f"the first request ended with {outcome!r}, so there is nothing to measure: try it with `foretell ask`, "
        raise Setup("wrong_setting", text + "and give rows that the model takes with --data")


def told_of(address: Address, path: str, body: bytes, headers: Mapping[str, str]) -> str:
    """What the server says to a request that it refuses; "" when it says nothing that can be read."""
    line = http.client.HTTPConnection(address.host, address.port, timeout=ANSWER_WITHIN_S)
    try:
        line.request("POST", path, body, dict(headers))
        said = orjson.loads(line.getresponse().read(MOST_BYTES_OF_A_REFUSAL))
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError):
        return ""
    finally:
        line.close()
    return escape(str(said.get("error", "")), MOST_CHARS_OF_A_REFUSAL) if isinstance(said, dict) else ""


def _describe(address: Address, protocol: str, name: str | None) -> Target:
    if protocol == "grpc":
        if name is None:
            raise Setup(
                "wrong_setting", "over gRPC the model must be named: foretell bench http://HOST:PORT MODEL --protocol grpc"
            )
        return Target(address, protocol, Model(name, _metadata_grpc(address, name)))
    name = name or _only_model(address)
    with Client(f"http://{address}", timeout_s=ANSWER_WITHIN_S, options=Options()) as client:
        found: Any = client.metadata(name)
    return Target(address, protocol, Model(name, _checked(found.get("inputs"), address)), address)


def _checked(inputs: Any, address: Address) -> list[dict[str, Any]]:
    """The inputs of a model's metadata, as the protocol has them. Raises Unavailable ``unreachable``."""
    wanted = (("name", str), ("datatype", str), ("shape", list))
    if not (isinstance(inputs, list) and inputs and all(isinstance(each, dict) for each in inputs)):
        raise Unavailable("unreachable", f"what answers at {address} does not say what the model takes: it is no model server")
    known = all(isinstance(each.get(key), kind) for each in inputs for key, kind in wanted)
    if not known or not all(each["datatype"] in Datatype.__members__ for each in inputs):
        raise Unavailable("unreachable", f"what answers at {address} does not describe its inputs as the protocol does")
    return inputs


def _only_model(address: Address) -> str:
    """The name of the one model of a server. Raises Setup with the names when there are more."""
    with Client(f"http://{address}", timeout_s=ANSWER_WITHIN_S) as client:
        names = sorted({str(each.get("name")) for each in client.models() if each.get("state", "READY") == "READY"})
    if len(names) != 1:
        shown = ", ".join(names[:20]) or "none"
        raise Setup("wrong_setting", f"name the model to measure, as in `foretell bench URL MODEL`; the server has: {shown}")
    return names[0]


def _metadata_grpc(address: Address, name: str) -> list[dict[str, Any]]:
    with needs_extra("--protocol grpc", "grpc"):
        import grpc

        from foretell.modes.grpc.stubs import inference_pb2 as messages
    with grpc.insecure_channel(str(address)) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelMetadata",
            messages.ModelMetadataRequest.SerializeToString,
            messages.ModelMetadataResponse.FromString,
        )
        try:
            found = call(messages.ModelMetadataRequest(name=name), timeout=ANSWER_WITHIN_S)
        except grpc.RpcError as error:
            raise Unavailable("unreachable", f"{address} does not describe {name!r} over gRPC: {error.details()}") from error
    return [{"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in found.inputs]


@contextlib.contextmanager
def served(path: str, protocol: str, *flags: str) -> Iterator[tuple[Address, Address]]:
    """`foretell serve PATH` on free ports, with its settings from flags and the environment, up to the end of the block.

    Gives where it speaks HTTP, and gRPC if that is the protocol. Raises Setup when it does not start.
    """
    if not Path(path.partition(".py:")[0]).exists() and not Path(path).exists() and ".py:" not in path:
        raise Setup("missing_file", f"there is no model at {path}; a server is named by its URL, as http://127.0.0.1:8000")
    line = [sys.executable, "-m", "foretell", "serve", path, "--http-port", "0", "--timeouts-drain-grace-s", "0"]
    line += [*(("--grpc-port", "0") if protocol == "grpc" else ()), *flags]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, text=True) as server:
        try:
            assert server.stdout is not None
            readable, _, _ = select.select([server.stdout], [], [], READY_WITHIN_S)
            ready = server.stdout.readline() if readable else ""
            web = re.search(r"http://(\S+?):(\d+)", ready)
            grpc = re.search(r"gRPC (\S+):(\d+)", ready)
            if web is None or (protocol == "grpc" and grpc is None):
                server.terminate()
                log.seek(0)
                told = [line for line in log.read().splitlines() if line.startswith("foretell: ")]
                raise Setup("broken_model", f"{path} is not served: {told[-1][10:] if told else 'the server does not say why'}")
            yield Address(web[1], int(web[2])), Address((grpc or web)[1], int((grpc or web)[2]))
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(STOP_WITHIN_S)
            server.kill()
