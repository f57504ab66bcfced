"""What an error is over gRPC: one table from kind to status, a sentence, and the stable code in the trailing metadata."""

import logging
import math
import secrets
from typing import NamedTuple

import grpc

from foretell.codes import tell
from foretell.errors import Broken, ForetellError, Kind
from foretell.passage import log_fields
from foretell.request import Marks

log = logging.getLogger("foretell")

STATUS: dict[Kind, grpc.StatusCode] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.MISSING: grpc.StatusCode.NOT_FOUND,
    Kind.WRONG_VERB: grpc.StatusCode.UNIMPLEMENTED,
    Kind.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.MISMATCHED: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.HEADERS_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.STALLED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.UNSUPPORTED: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.BUSY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.LATE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.CANCELLED: grpc.StatusCode.CANCELLED,
    Kind.BROKEN: grpc.StatusCode.INTERNAL,
    Kind.SETUP: grpc.StatusCode.INTERNAL,
}
LONGEST_SENTENCE = 600
"""Characters: sentence and metadata must fit the 8 KiB that clients take, and a character may be sent as twelve bytes."""

Metadata = tuple[tuple[str, str], ...]


class Refusal(NamedTuple):
    """One error as a client gets it."""

    status: grpc.StatusCode
    sentence: str
    metadata: Metadata


def refusal(error: ForetellError, marks: Marks = (), model: str | None = None) -> Refusal:
    """What a client is told of an error; for one of the server's own an id, and the traceback in the log.

    ``marks`` and ``model`` name the request there.
    """
    sentence = tell(error)
    told = [("foretell-code", error.code)]
    if error.kind in (Kind.BROKEN, Kind.SETUP):
        error_id = secrets.token_hex(8)
        named = {"error_id": error_id, "code": error.code, "model": model, **log_fields(marks)}
        trace = error if error.kind is Kind.BROKEN or error.__cause__ is not None else None  # a sentence about a file is enough
        log.error("%s: %s", error.code, error, exc_info=trace, extra=named)
        sentence = f"{sentence} (error id {error_id})"
        told.append(("foretell-error-id", error_id))
    else:
        error.__traceback__ = None  # its frames hold the passage, which holds it: under a flood the collector would do the rest
    retry_after_s = error.details.get("retry_after_s")
    if isinstance(retry_after_s, int | float):
        told.append(("retry-after", str(max(1, math.ceil(retry_after_s)))))
    return Refusal(STATUS[error.kind], sentence[:LONGEST_SENTENCE], tuple(told))


def unexpected(error: BaseException) -> Broken:
    """A mistake of the server's own, as what the caller is told of it."""
    broken = Broken("internal", "the server made a mistake on this request")
    broken.__cause__ = error
    return broken
