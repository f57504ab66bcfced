"""Who may administer this server: those who hold the one key, and nobody when there is none."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager

from foretell.errors import Denied, Setup, Unauthenticated


def check_admin(key: str, authorization: str | None) -> None:
    """Let a caller administer who sent ``authorization: Bearer KEY``; keys are compared in constant time.

    Raises Denied ``admin_off`` when no ``admin.key`` is set, Unauthenticated ``wrong_key`` for a wrong one or none.
    """
    if not key:
        raise Denied("admin_off", "administration over the network is off: have the operator set FORETELL_ADMIN_KEY")
    scheme, _, given = (authorization or "").partition(" ")
    is_same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), key.encode("utf-8", "surrogateescape"))
    if scheme.lower() != "bearer" or not is_same:
        text = "this needs the server's admin key, and the request has none or another: send `authorization: Bearer KEY`"
        raise Unauthenticated("wrong_key", text)


@contextmanager
def told_whole() -> Iterator[None]:
    """Have a holder of the admin key told what is wrong with a file, names and all; others are told by the code alone."""
    try:
        yield
    except Setup as error:
        error.whole = True
        raise
