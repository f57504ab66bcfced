"""The look at large messages before they are parsed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import Invalid
from foretell.modes.grpc.guard import MOST_PARTS, SMALL_BYTES, check_parts
from foretell.modes.grpc.inference import PARTS
from foretell.modes.grpc.stubs import inference_pb2 as messages

PADDING = b"\x3a\x80\x80\x08" + b"\0" * 2**17
"""A raw content that makes any message a large one."""


def code(message: bytes) -> str | None:
    try:
        check_parts(message, PARTS)
    except Invalid as error:
        return error.code
    return None


@given(st.lists(st.sampled_from(["", "a"]), max_size=3), st.integers(0, 5), st.binary(max_size=9))
def test_what_protobuf_writes_is_let_through(names: list[str], shape: int, raw: bytes) -> None:
    inputs = [{"name": name, "shape": range(shape), "contents": {"bytes_contents": [raw] * shape}} for name in names]
    outputs = [{"name": name} for name in names]
    message = messages.ModelInferRequest(inputs=inputs, outputs=outputs, raw_input_contents=[raw, b"\0" * SMALL_BYTES])
    message.parameters["p"].double_param = 1.5
    check_parts(message.SerializeToString(), PARTS)


@given(st.binary(max_size=60))
def test_what_protobuf_reads_is_let_through_and_nothing_else_goes_wrong(head: bytes) -> None:
    found = code(head + PADDING)
    assert found in (None, "invalid_body")


@pytest.mark.parametrize(
    ("field", "inner"),
    [(b"\x2a", b""), (b"\x32", b""), (b"\x22", b""), (b"\x7a", b"")],
    ids=["inputs", "outputs", "parameters", "unknown"],
)
def test_too_many_parts_are_refused(field: bytes, inner: bytes) -> None:
    part = field + bytes([len(inner)]) + inner
    assert code(part * MOST_PARTS) is None
    assert code(part * (MOST_PARTS + 1)) == "invalid_body"


def test_too_many_small_texts_in_one_input_are_refused() -> None:
    message = messages.ModelInferRequest()
    message.inputs.add().contents.bytes_contents.extend([b""] * (MOST_PARTS + 1))
    assert code(message.SerializeToString()) == "invalid_body"


@pytest.mark.parametrize(
    "head",
    [
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a length of 2**63
        b"\x3a\xff\xff\xff\xff\x0f",
        b"\x80" * 11,  # a number without an end
        b"\x0b" * 100,  # groups in groups
        b"\x2a\x80\x80\x08\x3a\x81\x80\x08",  # a part that is longer than what holds it
    ],
)
def test_lengths_that_lead_out_are_refused(head: bytes) -> None:
    assert code(head + PADDING) == "invalid_body"
