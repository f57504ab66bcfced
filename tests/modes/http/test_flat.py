"""The one-pass reader says the same as the general one, or nothing."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import Invalid
from foretell.modes.http.flat import MOST_FORMS, FlatReader, read_flat
from foretell.modes.http.large import LARGE, read_floats
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


def plain(values: object, name: str = "x", shape: tuple[int, ...] = (1, 2), behind: str = "}]}") -> bytes:
    head = orjson.dumps({"inputs": [{"name": name, "shape": shape, "datatype": "FP32"}]})[:-3]
    return head + b',"data": ' + (values if isinstance(values, bytes) else orjson.dumps(values)) + behind.encode()


def told(read: tuple[Any, str | None] | None) -> object:
    return None if read is None else (read[0].tobytes(), read[0].shape, read[1])


@given(st.lists(st.lists(FLOATS, min_size=1, max_size=4), min_size=2, max_size=4))
def test_a_known_form_reads_what_the_general_way_reads(bodies: list[list[float]]) -> None:
    reader = FlatReader("x")
    for values in bodies:
        body = plain(values)
        assert told(reader.read(body)) == told(read_flat(body, "x"))


ODD = [
    plain(b"[1.5,2.5"),
    plain(b"[1.5,2.5,]"),
    plain(b"[1.5,2.5]]"),
    plain(b"[[1.5,2.5]]"),
    plain(b"[1.5]"),
    plain(b"[1.5,2.5,3.5]"),
    plain(b"[1.5,1e39]"),
    plain(b"[1.5,true]"),
    plain(b'["1.5",2.5]'),
    plain(b'[1.5,2.5],"data":[3.5,4.5]'),
    plain(b'[1.5,2.5],"\\u0064ata":[3.5,4.5]'),
    plain(b"[1.5,2.5]", behind='}],"id":"[1.5,2.5]"}'),
    plain(b"[1.5,2.5]", behind='}],"id":"7"}'),
    plain(b"[1.5,2.5]", behind="}]} "),
    plain(b" [ 1.5 , 2.5 ] "),
    plain([1.5, 2.5], shape=(2, 1)),
    plain([1.5, 2.5], name="y"),
    b'{"inputs":[{"data":[1.5,2.5],"name":"x","datatype":"FP32","shape":[1,2]}]}',
    b'{"inputs":[{"shape":[1,2],"datatype":"FP32","data":[1.5,2.5],"name":"x"}]}',
]


@pytest.mark.parametrize("first", range(len(ODD)))
def test_no_form_that_came_before_changes_how_another_is_read(first: int) -> None:
    reader = FlatReader("x")
    for body in (plain([7.5, 8.5]), ODD[first], *ODD, *ODD):
        assert told(reader.read(body)) == told(read_flat(body, "x")), body
    for body in ODD:
        changed = body.replace(b"2.5", b"9.5")
        assert told(reader.read(changed)) == told(read_flat(changed, "x")), changed


def test_forms_are_few_and_none_of_them_is_an_id() -> None:
    reader = FlatReader("x")
    for each in range(MOST_FORMS * 3):
        reader.read(body_of([1.0], [1, 1]).replace(b'"7"', b'"%d"' % each))
    assert not reader.forms
    for each in range(MOST_FORMS * 3):
        reader.read(plain([1.0, 2.0], shape=(1, 2)).replace(b'"data"', b" " * each + b'"data"'))
    assert 0 < len(reader.forms) <= MOST_FORMS


def test_large_arrays_are_read_as_small_ones_with_simdjson_and_without() -> None:
    reader, count = FlatReader("x"), LARGE // 4
    values = [round(number * 1.1, 4) for number in range(count)]
    for body in (plain(values, shape=(1, count)), plain(values[::-1], shape=(1, count))):
        assert told(reader.read(body)) == told(read_flat(body, "x"))
    for odd in ('"7"', "true", "null", "1e39", "1e400", "NaN", "[1]", "01", "", "18446744073709551616"):
        body = plain(values, shape=(1, count)).replace(b"1.1,", odd.encode() + b",", 1)
        assert told(reader.read(body)) == told(read_flat(body, "x")), odd


def test_simdjson_reads_floats_exactly() -> None:
    pytest.importorskip("simdjson")
    numbers = np.random.default_rng(0).normal(size=1000) * 10.0 ** np.random.default_rng(1).integers(-40, 38, 1000)
    numbers = numbers[np.abs(numbers) < 3e38]
    read = read_floats(orjson.dumps(numbers.tolist()))
    assert read is not None
    assert read.tobytes() == numbers.astype(np.float32).tobytes()
