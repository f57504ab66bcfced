"""``grpc.health.v1.Health``: what balancers and orchestrators ask.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

from foretell.errors import Missing
from foretell.modes.grpc.calls import Context, parse, simple, streaming
from foretell.modes.grpc.stubs.health_pb2 import HealthCheckRequest, HealthCheckResponse

SERVICE = "grpc.health.v1.Health"


class HealthService:
    """The methods of the service; ``close`` ends its streams. Every service, and the empty name, is as ready as the server."""

    def __init__(self, ready: Callable[[], bool], services: Collection[str]) -> None:
        self.ready = ready
        self.services = frozenset(services)
        self.closed = False
        self._watching: set[asyncio.Event] = set()

    def methods(self) -> dict[str, Any]:
        """The handler of each method, by name."""
        return {"Check": simple(HealthCheckRequest, self.check), "Watch": streaming(self.watch, many_requests=False)}

    def changed(self) -> None:
        """Tell those who watch, if what ``ready`` says has become something else."""
        for event in self._watching:
            event.set()

    def close(self) -> None:
        """End every watch, so that nobody waits for those who only look."""
        self.closed = True
        self.changed()

    def check(self, request: HealthCheckRequest) -> HealthCheckResponse:
        if request.service and request.service not in self.services:
            raise Missing("unknown_route", f"there is no service {request.service[:80]!r} here")
        return HealthCheckResponse(status=self._status(request.service))

    async def watch(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """The status now, and whenever it changes, until the caller goes away."""
        service = parse(HealthCheckRequest, await anext(requests)).service
        event = asyncio.Event()
        self._watching.add(event)
        told = None
        try:
            while not self.closed:
                event.clear()
                status = self._status(service)
                if status != told:
                    told = status
                    yield HealthCheckResponse(status=status).SerializeToString()
                if not self.closed:
                    await event.wait()
        finally:
            self._watching.discard(event)

    def _status(self, service: str) -> HealthCheckResponse.ServingStatus:
        if service and service not in self.services:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self.ready() else HealthCheckResponse.NOT_SERVING
