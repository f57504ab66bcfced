"""Each method as gRPC calls it: bytes in, bytes out, and the one place where errors become statuses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from foretell.errors import ForetellError
from foretell.modes.grpc.guard import SMALL_BYTES, Tree, check_parts, not_protobuf
from foretell.modes.grpc.status import refusal, unexpected

Context = grpc.aio.ServicerContext[Any, Any]
Answer = Callable[[bytes, Context], Awaitable[bytes]]
Answers = Callable[[AsyncIterator[bytes], Context], AsyncIterator[bytes]]
AnyMessage = TypeVar("AnyMessage", bound=Message)

MARKS = ("x-request-id", "traceparent")
LONGEST_MARK = 256


def unary(answer: Answer) -> Any:
    """The handler of a method with one request and one answer."""

    async def call(body: bytes, context: Context) -> bytes:
        try:
            return await answer(body, context)
        except ForetellError as error:
            return _refuse(error, context)
        except Exception as mistake:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's INTERNAL
            return _refuse(unexpected(mistake), context)

    return grpc.unary_unary_rpc_method_handler(call)


def streaming(answers: Answers, *, many_requests: bool) -> Any:
    """The handler of a method that answers with a stream; ``many_requests``: its requests are a stream too."""

    async def call(requests: Any, context: Context) -> AsyncIterator[bytes]:
        try:
            async for answered in answers(requests if many_requests else _only(requests), context):
                yield answered
        except ForetellError as error:
            _refuse(error, context)
        except Exception as mistake:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's INTERNAL
            _refuse(unexpected(mistake), context)

    make = grpc.stream_stream_rpc_method_handler if many_requests else grpc.unary_stream_rpc_method_handler
    return make(call)


def simple(kind: type[AnyMessage], answer: Callable[[AnyMessage], Message]) -> Any:
    """The handler of a method that is answered at once, and has nothing of the caller but its message."""

    async def call(body: bytes, context: Context) -> bytes:
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


def metadata_of(context: Context) -> dict[str, str]:
    """What the client sent beside its message; values that are bytes are left out."""
    sent: Any = context.invocation_metadata()
    return {key: value for key, value in sent or () if isinstance(value, str)}


async def _only(request: bytes) -> AsyncIterator[bytes]:
    yield request


def _refuse(error: ForetellError, context: Context) -> bytes:
    """A refusal, with the marks of the request given back: looking for them costs, and a good answer needs none."""
    sent = metadata_of(context)
    marks = [(key, sent[key]) for key in MARKS if key in sent and len(sent[key]) <= LONGEST_MARK]
    status, sentence, told = refusal(error, sent.get("x-request-id"))
    context.set_code(status)
    context.set_details(sentence)
    context.set_trailing_metadata((*marks, *told))
    return b""
