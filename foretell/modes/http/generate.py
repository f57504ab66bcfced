"""The generate door: one JSON object mapped to the inputs by name, answered at once or as server-sent events.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing
from typing import Any

import msgspec

from foretell.engine.engine import Engine
from foretell.engine.parameters import read_parameters
from foretell.errors import Invalid
from foretell.modes.http.rows import Column, dump, to_json
from foretell.modes.http.status import Answer, Headers
from foretell.request import Request
from foretell.tensors import Array, Arrays

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BODY = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PARAMETERS = msgspec.json.Decoder(dict[str, Any])
_VALUE = msgspec.json.Decoder(Any)


class GenerateDoor:
    """Reads one row for one engine: an input's value stands under its name, all other keys are parameters."""

    json_only = True

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rows = engine.pipeline.signature.rows
        self.columns = {spec.name: Column(spec) for spec in engine.pipeline.signature.inputs}
        self._head = {"model_name": engine.name, "model_version": engine.version}

    def read(self, body: bytes, content_type: bytes, received: float, total_s: float) -> Request:
        """The request in a body. Raises Invalid."""
        try:
            sent = _BODY.decode(body)
            inputs = {name: self._read(column, sent) for name, column in self.columns.items()}
            rest = {name: raw for name, raw in sent.items() if name not in self.columns}
            parameters = _PARAMETERS.decode(rest.pop("parameters", msgspec.Raw(b"{}")))
            parameters |= {name: _VALUE.decode(raw) for name, raw in rest.items()}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            reason = str(error).replace("`", "").replace("$", "body")
            raise Invalid("invalid_json", f"the body is not a JSON object of inputs and parameters: {reason}") from error
        identity = parameters.pop("id", None)
        if not isinstance(identity, str | None):
            raise Invalid("invalid_json", "the body is not a generate request: expected a text for id")
        deadline = received + min(total_s, read_parameters(parameters, total_s))
        return Request(inputs, received, deadline, identity, "http", parameters=parameters)

    def write(self, request: Request, outputs: Arrays) -> bytes:
        """The body of an answer: each output under its name, a single value bare."""
        named = {"id": request.id} if request.id is not None else {}
        return dump({**self._head, **named, **{name: self._show(array) for name, array in outputs.items()}})

    def _read(self, column: Column, sent: Mapping[str, msgspec.Raw]) -> Array:
        name = column.spec.name
        if name not in sent:
            names = ", ".join(self.columns)
            text = f"input {name!r} is missing: the model takes {names}"
            raise Invalid(
                "missing_input", text, input=name, expected=list(self.columns), got=[key[:80] for key in list(sent)[:20]]
            )
        array = column.stack([column.read_one(sent[name])])
        return array if self.rows else array[0]

    def _show(self, array: Array) -> Any:
        values = to_json(array.reshape(-1) if array.size == 1 else array)
        return values[0] if len(values) == 1 else values


async def pieces(door: GenerateDoor, request: Request) -> AsyncGenerator[bytes, None]:
    """The answer as it comes, each piece in the form of ``write``. A backend that does not stream gives one."""
    async with aclosing(door.engine.stream(request)) as answers:
        async for outputs in answers:
            yield door.write(request, outputs)


class EventStream:
    """Server-sent events to one client. ``started``: whether the status has gone out, so that a refusal must be an event."""

    def __init__(self, send: Send, marks: Headers) -> None:
        self.send = send
        self.marks = marks
        self.started = False

    async def tell(self, data: bytes) -> None:
        """Send one piece of JSON."""
        if not self.started:
            self.started = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store"), *self.marks]
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"data: %b\n\n" % data, "more_body": True})

    async def end(self, last: bytes = b"") -> None:
        await self.send({"type": "http.response.body", "body": last})

    async def fail(self, answer: Answer) -> None:
        """End with a refusal that came too late for a status."""
        await self.end(b"event: error\ndata: %b\n\n" % answer.body)
