"""The one-pass reader says the same as the general one, or nothing."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import Invalid
from foretell.modes.http.flat import read_flat
from foretell.modes.http.tensors import InferInput, read_tensor

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)


def body_of(values: list[float], shape: list[int], **more: Any) -> bytes:
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "data": values, **more}
    return orjson.dumps({"inputs": [tensor], "id": "7"})


@given(st.lists(FLOATS, min_size=1, max_size=12))
def test_it_reads_what_the_general_way_reads(values: list[float]) -> None:
    import msgspec

    flat = read_flat(body_of(values, [1, len(values)]), "x")
    general = read_tensor(InferInput("x", [1, len(values)], "FP32", msgspec.Raw(orjson.dumps(values))))
    if flat is None:  # too near the end of the range for the cheap proof
        assert max(map(abs, values)) > 1e37
        return
    assert flat[0].dtype == np.float32
    assert flat[0].tobytes() == general.tobytes()
    assert flat[1] == "7"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b'{"inputs":[]}',
        body_of([1.0], [1, 2]),
        body_of([], [0]),
        body_of([1.0], [-1, -1]),
        body_of([1.0], []),
        body_of([1e39], [1, 1]),
        body_of([1.0], [1, 1], parameters={}),
        body_of([1.0], [1, 1]).replace(b"FP32", b"FP64"),
        body_of([1.0], [1, 1]).replace(b'"x"', b'"y"'),
        body_of([1.0], [1, 1]).replace(b"1.0", b'"NaN"'),
        body_of([1.0], [1, 1]).replace(b"1.0", b"true"),
        body_of([1.0], [1, 1]).replace(b"1.0", b"[1.0]"),
        orjson.dumps({"inputs": [], "outputs": []}),
    ],
)
def test_it_leaves_the_rest_to_the_general_way(body: bytes) -> None:
    assert read_flat(body, "x") is None


def test_the_general_way_refuses_what_is_out_of_range() -> None:
    import msgspec

    with pytest.raises(Invalid):
        read_tensor(InferInput("x", [1], "FP32", msgspec.Raw(b"[1e39]")))
