"""The parameters of an infer request: what is known is checked, what is not known is left alone.

``sequence_*`` are taken from clients that send them and have no effect: no model here keeps state.
"""

from collections.abc import Mapping
from typing import Any

from foretell.errors import Invalid
from foretell.request import LOW, NORMAL

_MOST = 2**64 - 1
_SERVERS_OWN = frozenset(
    ("priority", "timeout", "sequence_id", "sequence_start", "sequence_end", "binary_data_output", "binary_data_size")
)


def read_parameters(parameters: Mapping[str, Any], total_s: float) -> float:
    """Check all that is known; gives the seconds that the request may take. Raises Invalid ``unknown_parameter``."""
    for name in ("sequence_start", "sequence_end", "binary_data_output"):
        read_flag(parameters, name)
    if "priority" in parameters:
        _check_count(parameters["priority"], "priority", "a whole number", most=_MOST)
    sequence = parameters.get("sequence_id", 0)
    if not isinstance(sequence, str):
        _check_count(sequence, "sequence_id", "a text or a whole number", most=_MOST)
    timeout = parameters.get("timeout", 0)
    _check_count(timeout, "timeout", "a whole number of microseconds")
    return min(timeout, 2**63) / 1e6 if timeout else total_s


def read_priority(parameters: Mapping[str, object]) -> int:
    """The protocol's ``priority``: 0 is the usual one, 1 the highest, and what is lower than there are levels is the lowest.

    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_schedule_policy.md
    """
    priority = parameters.get("priority")
    return min(priority, LOW) if type(priority) is int and priority > 0 else NORMAL


def model_parameters(parameters: Mapping[str, object]) -> Mapping[str, object] | None:
    """Those that are not the server's own: only requests that are equal in them share a call of the model."""
    return {name: value for name, value in parameters.items() if name not in _SERVERS_OWN} or None


def read_flag(parameters: Mapping[str, Any], name: str) -> bool | None:
    """A parameter that is true or false, None when it is not there. Raises Invalid."""
    value = parameters.get(name)
    if value is None or value is True or value is False:
        return value
    raise _refusal(name, "true or false", value)


def _check_count(value: object, name: str, expected: str, most: int | None = None) -> None:
    """A whole number from 0 on; ``timeout`` has no upper end: a very long one is the server's own."""
    if type(value) is not int or value < 0 or (most is not None and value > most):
        raise _refusal(name, f"{expected}, at least 0", value)


def _refusal(name: str, expected: str, value: object) -> Invalid:
    got = str(value)[:40] if not isinstance(value, int) or abs(value) < 2**128 else "a huge number"
    text = f"the parameter {name!r} must be {expected}, not {got}"
    return Invalid("unknown_parameter", text, parameter=name, expected=expected, got=got)


def check_load_parameters(parameters: Mapping[str, object]) -> None:
    """Refuse what would change how a model is loaded or unloaded, since nothing reads it. Raises Invalid."""
    unread = sorted(name for name, value in parameters.items() if name != "unload_dependents" or value is not False)
    if unread:
        text = f"the parameter {unread[0][:80]!r} is not taken: a model is loaded and unloaded alone, as its own folder says"
        raise Invalid("unknown_parameter", text, parameter=unread[0][:80])
