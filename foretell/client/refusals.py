"""What a server refused, as the exception that the server itself raised: the class by the code, else by the status."""

from foretell.client.answers import read_json
from foretell.client.retry import read_retry_after, read_seconds
from foretell.client.wire import Answer
from foretell.codes import CODES
from foretell.errors import (
    Broken,
    Busy,
    Conflict,
    Denied,
    ForetellError,
    HeadersTooLarge,
    Invalid,
    Late,
    Mismatched,
    Missing,
    Stalled,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
    WrongVerb,
)

BY_STATUS: dict[int, type[ForetellError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Denied,
    404: Missing,
    405: WrongVerb,
    408: Stalled,
    409: Conflict,
    413: TooLarge,
    415: Unsupported,
    422: Mismatched,
    429: Busy,
    431: HeadersTooLarge,
    503: Unavailable,
    504: Late,
}


def refusal_of(answer: Answer) -> ForetellError | None:
    """The error that an answer tells of, or None for a success. ``details`` is what the server said besides, and the status."""
    if 200 <= answer.status < 300:
        return None
    said = _read(answer.body)
    code, message = said.pop("code", None), said.pop("error", None)
    by_status = BY_STATUS.get(answer.status, Broken)
    if isinstance(code, str) and isinstance(message, str):
        error = CODES[code][0](code, message) if code in CODES else by_status(code, message)
    else:
        message = message if isinstance(message, str) else _hint(answer.status)
        error = by_status("foreign_answer", f"the answer has status {answer.status} and no code of foretell's: {message}"[:500])
    retry_after_s = read_retry_after(answer.headers.get("retry-after"))
    if retry_after_s is None:
        retry_after_s = read_seconds(said.get("retry_after_s"))
    said.pop("retry_after_s", None)
    error.details.update(said, status=answer.status)
    if retry_after_s is not None:
        error.details["retry_after_s"] = retry_after_s
    return error


def _read(body: bytearray) -> dict[str, object]:
    try:
        said: dict[str, object] = read_json(body, "an object")
    except Broken:
        return {}
    return said


def _hint(status: int) -> str:
    return "the address leads elsewhere, use the one it redirects to" if 300 <= status < 400 else "check the address"
