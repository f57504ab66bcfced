"""Every refusal and failure, as one tree; a mode maps its kinds to statuses and never needs more than this file.

ForetellError
├── Invalid            the caller's input is at fault
├── Unauthenticated    no credentials, or wrong ones
├── Denied             known, but not allowed
├── Missing            no such model, version or route
├── WrongVerb          the route exists, the verb does not
├── Conflict           what is asked does not fit the state that something is in
├── Mismatched         a key that was used before came with another request
├── TooLarge           the body is over the limit
├── HeadersTooLarge    the headers are over the limit
├── Stalled            the request stopped coming
├── Unsupported        a content type or encoding that is not spoken here
├── Busy               a queue or a rate is full; try again later
├── Unavailable        loading, draining, or a worker died
├── Late               the deadline passed
├── Cancelled          the caller went away
├── Broken             the model or a step raised
└── Setup              a file, setting or package is at fault: nothing starts
"""

from enum import Enum, auto
from typing import ClassVar


class Kind(Enum):
    """What went wrong, free of any transport. Every mode owns one table from kind to its own status."""

    INVALID = auto()
    UNAUTHENTICATED = auto()
    DENIED = auto()
    MISSING = auto()
    WRONG_VERB = auto()
    CONFLICT = auto()
    MISMATCHED = auto()
    TOO_LARGE = auto()
    HEADERS_TOO_LARGE = auto()
    STALLED = auto()
    UNSUPPORTED = auto()
    BUSY = auto()
    UNAVAILABLE = auto()
    LATE = auto()
    CANCELLED = auto()
    BROKEN = auto()
    SETUP = auto()


class ForetellError(Exception):
    """A failure with a stable ``code`` for programs, a sentence for people, and JSON-ready ``details``.

    The message and the details may be shown to the caller: they never hold a path, a host or a traceback.
    (``Setup`` is for the operator, and does name files.)
    """

    kind: ClassVar[Kind] = Kind.BROKEN

    def __init__(self, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class Invalid(ForetellError):
    kind = Kind.INVALID


class Unauthenticated(ForetellError):
    kind = Kind.UNAUTHENTICATED


class Denied(ForetellError):
    kind = Kind.DENIED


class Missing(ForetellError):
    kind = Kind.MISSING


class WrongVerb(ForetellError):
    kind = Kind.WRONG_VERB


class Conflict(ForetellError):
    kind = Kind.CONFLICT


class Mismatched(ForetellError):
    kind = Kind.MISMATCHED


class TooLarge(ForetellError):
    kind = Kind.TOO_LARGE


class HeadersTooLarge(ForetellError):
    kind = Kind.HEADERS_TOO_LARGE


class Stalled(ForetellError):
    kind = Kind.STALLED


class Unsupported(ForetellError):
    kind = Kind.UNSUPPORTED


class Busy(ForetellError):
    kind = Kind.BUSY


class Unavailable(ForetellError):
    kind = Kind.UNAVAILABLE


class Late(ForetellError):
    kind = Kind.LATE


class Cancelled(ForetellError):
    kind = Kind.CANCELLED


class Broken(ForetellError):
    kind = Kind.BROKEN


class Setup(ForetellError):
    kind = Kind.SETUP
    whole = False  # whether its sentence, which names files, may go over the network: to who holds the admin key
