"""Each method as gRPC calls it: bytes in, bytes out, and the one place where errors become statuses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message

from foretell.engine.traffic import Traffic
from foretell.errors import ForetellError
from foretell.modes.grpc.guard import SMALL_BYTES, Tree, check_parts, not_protobuf
from foretell.modes.grpc.status import refusal, unexpected
from foretell.request import Marks

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = Sequence[tuple[str, str | bytes]]
Answer = Callable[[bytes, Context, Metadata], Awaitable[bytes]]
Answers = Callable[[AsyncIterator[bytes], Context], AsyncIterator[bytes]]
AnyMessage = TypeVar("AnyMessage", bound=Message)

MARKS = frozenset({"x-request-id", "traceparent"})
LONGEST_MARK = 256


class Methods(grpc.GenericRpcHandler):
    """Finds the handler of a call by its path, ``/service/Method``: one table for all services."""

    def __init__(self, services: Mapping[str, Mapping[str, Any]]) -> None:
        self._makers = {f"/{name}/{method}": make for name, methods in services.items() for method, make in methods.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        make = self._makers.get(handler_call_details.method)
        return None if make is None else make(handler_call_details.invocation_metadata or ())


class UnaryCall:
    """The handler of one call. It is given what came beside the message: asking the context for that costs as much again."""

    __slots__ = ("answer", "metadata")

    request_streaming = response_streaming = False
    request_deserializer = response_serializer = None

    def __init__(self, answer: Answer, metadata: Metadata) -> None:
        self.answer = answer
        self.metadata = metadata

    async def unary_unary(self, body: bytes, context: Context) -> bytes:
        try:
            return await self.answer(body, context, self.metadata)
        except ForetellError as error:
            return _refuse(error, context, self.metadata)
        except Exception as mistake:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's INTERNAL
            return _refuse(unexpected(mistake), context, self.metadata)


def unary(answer: Answer) -> Any:
    """What makes the handlers of a method with one request and one answer."""
    return partial(UnaryCall, answer)


def streaming(answers: Answers, *, many_requests: bool) -> Any:
    """What gives the handler of a method that answers with a stream; ``many_requests``: its requests are a stream too."""

    async def call(requests: Any, context: Context) -> AsyncIterator[bytes]:
        try:
            async for answered in answers(requests if many_requests else _only(requests), context):
                yield answered
        except ForetellError as error:
            _refuse(error, context, metadata_of(context))
        except Exception as mistake:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's INTERNAL
            _refuse(unexpected(mistake), context, metadata_of(context))

    handler: Any = (grpc.stream_stream_rpc_method_handler if many_requests else grpc.unary_stream_rpc_method_handler)(call)
    return lambda metadata: handler


def simple(kind: type[AnyMessage], answer: Callable[[AnyMessage], Message]) -> Any:
    """What makes the handlers of a method that is answered at once, and has nothing of the caller but its message."""

    async def call(body: bytes, context: Context, metadata: Metadata) -> bytes:
        return answer(parse(kind, body)).SerializeToString()

    return unary(call)


def parse(kind: type[AnyMessage], body: bytes) -> AnyMessage:
    """A message of a kind. Raises Invalid ``invalid_body``."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise not_protobuf() from error


async def parse_guarded(kind: type[AnyMessage], body: bytes, tree: Tree) -> AnyMessage:
    """``parse`` for messages of any size: large ones are looked at first, and in a thread. Raises Invalid."""
    if len(body) <= SMALL_BYTES:
        return parse(kind, body)

    def check_and_parse() -> AnyMessage:
        check_parts(body, tree)
        return parse(kind, body)

    return await asyncio.to_thread(check_and_parse)


def key_of(metadata: Metadata, traffic: Traffic) -> str:
    """What keeps a caller at one of the versions that share a model's callers; empty for what did not come."""
    return ",".join([value for key, value in metadata if key == traffic.sticky and isinstance(value, str)])


def metadata_of(context: Context) -> Metadata:
    """What the client sent beside the messages of a stream."""
    sent: Any = context.invocation_metadata()
    return sent or ()


def marks_of(metadata: Metadata) -> Marks:
    """What a request is found again by: for the log, and given back with a refusal."""
    return [
        (key.encode(), value.encode())
        for key, value in metadata
        if key in MARKS and isinstance(value, str) and len(value) <= LONGEST_MARK and value.isprintable()
    ]


def authorization_of(metadata: Metadata) -> str:
    """The credentials of a call; two that differ are none that is known."""
    return ", ".join(dict.fromkeys([value for key, value in metadata if key == "authorization" and isinstance(value, str)]))


def caller_of(context: Context, metadata: Metadata, header: str) -> str:
    """Who asks: what a trusted proxy says in ``header``, or the address of the other end where that is not sensible."""
    if header:
        named = [value for key, value in metadata if key == header and isinstance(value, str)]
        if len(named) == 1 and 0 < len(named[0]) <= LONGEST_MARK and named[0].isprintable():
            return named[0]
    return _address(context.peer())


@lru_cache(maxsize=4096)
def _address(peer: str) -> str:
    """The address in gRPC's name of a peer: ``ipv4:127.0.0.1:5000``, ``ipv6:%5B::1%5D:5000``."""
    return unquote(peer.partition(":")[2].rpartition(":")[0]).strip("[]") or peer


async def _only(request: bytes) -> AsyncIterator[bytes]:
    yield request


def _refuse(error: ForetellError, context: Context, metadata: Metadata) -> bytes:
    """A refusal, with the marks of the request given back."""
    marks = marks_of(metadata)
    status, sentence, told = refusal(error, marks)
    context.set_code(status)
    context.set_details(sentence)
    context.set_trailing_metadata((*[(name.decode(), value.decode()) for name, value in marks], *told))
    return b""
