"""What else a request may ask of HTTP: its times, and to be known by the name that a proxy gives it."""

import asyncio
import re
import socket

import numpy as np
import pytest

from foretell.assemble import Service
from foretell.engine.engine import Engine
from foretell.modes.http.heads import find_caller
from foretell.modes.http.server import HttpServer
from foretell.pipeline import Pipeline
from foretell.request import Request
from foretell.settings import HttpSettings, Settings
from foretell.tensors import Arrays
from foretell.testing import FakeBackend, InProcess
from tests.serving import Served, double, infer, sleep

GOOD = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'


def seen_callers(settings: Settings, headers: dict[str, str]) -> list[str]:
    """Who the engine is told that a request comes from."""
    seen: list[str] = []

    def see(request: Request, outputs: Arrays) -> None:
        seen.append(request.caller)

    with InProcess(Pipeline(FakeBackend()), settings=settings) as client:
        client.service.catalog.find("m").after = see
        assert client.request("POST", "/v2/models/m/infer", GOOD, headers).status == 200
    return seen


def callers_in_the_lane(settings: Settings, *requests: bytes) -> list[str]:
    """The same for requests of one connection that the fast lane takes."""
    seen: list[str] = []

    async def main() -> None:
        service = Service(settings)
        engine = Engine("double", "1", Pipeline(FakeBackend()), settings.engine, service.loader.observers)
        await engine.start()
        engine.infer = None  # type: ignore[assignment, method-assign]  # the ASGI way would need it
        service.catalog.add(engine)
        engine.after = lambda request, outputs: seen.append(request.caller)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = HttpServer(service.http, settings, listening)
            listening.setblocking(False)
            serving = asyncio.ensure_future(server.serve_until_stopped())
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            for request in requests:
                writer.write(request)
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                await reader.readuntil(b"]}]}")
            writer.close()
            server.should_exit = True
            await serving

    asyncio.run(main())
    return seen


def test_the_fast_lane_names_callers_too() -> None:
    requests = (double("x-tenant: a"), double(), double("X-Tenant: b"))
    assert callers_in_the_lane(Settings(), *requests) == ["127.0.0.1"] * 3
    assert callers_in_the_lane(Settings(http=HttpSettings(caller_header="x-tenant")), *requests) == ["a", "127.0.0.1", "b"]


def test_times_are_given_on_request_and_sum_up(lane_server: Served, asgi_server: Served) -> None:
    for served in (lane_server, asgi_server):
        told = served.ask(sleep(0.05, "x-server-timing: 1")).header(b"server-timing")
        assert told is not None
        match = re.fullmatch(rb"queue;dur=(\d+\.\d{3}), compute;dur=(\d+\.\d{3}), total;dur=(\d+\.\d{3})", told)
        assert match is not None
        queue, compute, total = map(float, match.groups())
        assert 50 <= compute < 1000
        assert queue + compute <= total < compute + 1000


def test_times_are_not_given_unasked(lane_server: Served) -> None:
    assert lane_server.ask(double()).header(b"server-timing") is None


def test_an_answer_with_times_is_otherwise_the_same(lane_server: Served) -> None:
    plain, timed = lane_server.ask(double(id="7")), lane_server.ask(double("x-server-timing: 1", id="7"))
    assert timed.body == plain.body
    assert [header for header in timed.headers if header[0] not in (b"date", b"server-timing")] == [
        header for header in plain.headers if header[0] != b"date"
    ]


def test_a_caller_is_its_address_without_a_header_for_it() -> None:
    assert seen_callers(Settings(), {"x-tenant": "a"}) == ["127.0.0.1"]


def test_a_trusted_header_names_the_caller() -> None:
    settings = Settings(http=HttpSettings(caller_header="X-Tenant"))
    assert seen_callers(settings, {"x-tenant": "a"}) == ["a"]
    assert seen_callers(settings, {}) == ["127.0.0.1"]


@pytest.mark.parametrize(
    "values",
    [[], [b""], [b"a", b"b"], [b"x" * 257], [b"\xff"], [b"a\tb"]],
    ids=["none", "empty", "two", "long", "bytes", "tab"],
)
def test_a_header_that_names_nobody_leaves_the_address(values: list[bytes]) -> None:
    assert find_caller([(b"x-tenant", value) for value in values], b"x-tenant", "::1") == "::1"


def test_a_request_with_an_id_of_its_own_keeps_it_in_the_answer(lane_server: Served) -> None:
    told = lane_server.ask(infer("double", "x", [1, 2], "x-request-id: outer", shape=[1, 2], id="inner"))
    assert (told.json()["id"], told.header(b"x-request-id")) == ("inner", b"outer")
    assert "id" not in lane_server.ask(double("x-request-id: outer")).json()
    assert np.isfinite(told.json()["outputs"][0]["data"]).all()
