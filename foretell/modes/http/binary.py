"""Binary tensors: raw elements (foretell/elements.py) beside the JSON of a request or an answer.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from foretell.errors import Invalid

_MOST_DIGITS = 18


def header_length(value: bytes, body_bytes: int) -> int:
    """The bytes of JSON before the tensors, as the header ``Inference-Header-Content-Length`` says. Raises Invalid."""
    if not (value.isdigit() and len(value) <= _MOST_DIGITS and int(value) <= body_bytes):
        got = value.decode("latin-1")[:40]
        text = f"the header Inference-Header-Content-Length says {got!r}, but the body has {body_bytes} bytes"
        raise Invalid("invalid_body", text, expected=f"a whole number up to {body_bytes}", got=got)
    return int(value)


def json_bytes(value: bytes) -> int:
    """What the header says, 0 for what ``header_length`` refuses."""
    return int(value) if value.isdigit() and len(value) <= _MOST_DIGITS else 0


class Tensors:
    """The binary part of a body, given out tensor by tensor; ``finish`` refuses what is left over."""

    def __init__(self, raw: memoryview) -> None:
        self.raw = raw
        self.at = 0

    def take(self, size: object, name: str) -> memoryview:
        """The next ``size`` bytes, as the parameter ``binary_data_size`` says. Raises Invalid."""
        left = len(self.raw) - self.at
        if type(size) is not int or not 0 <= size <= left:
            text = f"input {name!r}: binary_data_size is {str(size)[:40]}, but {left} bytes of the body are left for it"
            raise Invalid("invalid_body", text, input=name, expected=f"a whole number up to {left}", got=str(size)[:40])
        self.at += size
        return self.raw[self.at - size : self.at]

    def finish(self) -> None:
        left = len(self.raw) - self.at
        if left:
            raise Invalid("invalid_body", f"{left} bytes are left over behind the last binary tensor: no input claims them")
