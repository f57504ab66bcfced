"""Binary tensors: bit by bit there and back, and a refusal for every way to get them wrong."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from foretell.codes import CODES
from foretell.elements import read_elements, write_elements
from foretell.pipeline import Pipeline
from foretell.tensors import Array, Datatype, TensorSpec
from foretell.testing import FakeBackend, InProcess, Response
from tests.modes.http.test_tensors import echo
from tests.serving import Served, double, post

PATH = "/v2/models/m/infer"
HEADER = "inference-header-content-length"
X = np.array([[1.0, 2.0]], np.float32).tobytes()
GOOD = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
NUMBERS = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]


def ask(client: InProcess, body: object, raw: bytes = b"", header: str | None = None, **headers: str) -> Response:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    length = str(len(text)) if header is None else header
    kind = {"content-type": "application/octet-stream", HEADER: length}
    return client.request("POST", PATH, text + raw, {**kind, **headers})


def tensors(answer: Response) -> dict[str, tuple[dict[str, Any], bytes]]:
    """The outputs of an answer, each with its binary part."""
    assert answer.status == 200, answer.body
    length = int(answer.headers[HEADER])
    outputs, at = {}, length
    for output in orjson.loads(answer.body[:length])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        outputs[output["name"]] = (output, answer.body[at : at + size])
        at += size
    assert at == len(answer.body)
    return outputs


def refused(answer: Response, code: str) -> None:
    told = answer.json()
    assert (answer.status, told["code"]) == (400, code), told
    assert code in CODES
    assert len(answer.body) < 1000


def same_bits(one: Array, two: Array) -> bool:
    return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()


def back(array: Array, datatype: Datatype) -> Array:
    return read_elements(memoryview(write_elements(array)), datatype, list(array.shape), "x")


@pytest.mark.parametrize("datatype", NUMBERS, ids=str)
@given(data=st.data())
def test_every_bit_pattern_comes_back(datatype: Datatype, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    size = int(np.prod(shape)) * datatype.numpy.itemsize
    raw = data.draw(st.binary(min_size=size, max_size=size))
    if datatype is Datatype.BOOL:
        raw = bytes(byte & 1 for byte in raw)
    array = np.frombuffer(raw, datatype.numpy).reshape(shape)
    assert same_bits(back(array, datatype), array)
    assert write_elements(array) == raw


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16], ids=str)
def test_all_65536_half_floats_come_back(datatype: Datatype) -> None:
    array = np.arange(2**16, dtype=np.uint16).view(datatype.numpy)
    assert same_bits(back(array, datatype), array)


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_arbitrary_bytes_come_back(elements: list[bytes]) -> None:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    assert back(array, Datatype.BYTES).tolist() == elements


def test_what_was_read_may_be_written_to() -> None:
    array: NDArray[Any] = read_elements(memoryview(b"_" + X)[1:], Datatype.FP32, [1, 2], "x")
    array[0, 0] = 7  # a model's own code may, as it may with an array that came in JSON
    assert array.flags.behaved


@given(datatype=st.sampled_from(NUMBERS), data=st.data())
def test_a_tensor_goes_through_the_door_bit_by_bit(datatype: Datatype, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 4))
    raw = data.draw(st.binary(min_size=rows * datatype.numpy.itemsize, max_size=rows * datatype.numpy.itemsize))
    if datatype is Datatype.BOOL:
        raw = bytes(byte & 1 for byte in raw)
    tensor = {"name": "x", "shape": [rows], "datatype": str(datatype), "parameters": {"binary_data_size": len(raw)}}
    with InProcess(echo(TensorSpec("x", datatype))) as client:
        answer = ask(client, {"inputs": [tensor], "parameters": {"binary_data_output": True}}, raw)
    assert tensors(answer)["back_x"][1] == raw


def test_binary_and_json_tensors_mix() -> None:
    with InProcess(echo(TensorSpec("a", Datatype.INT16), TensorSpec("b", Datatype.BYTES))) as client:
        inputs = [
            {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["é"]},
            {"name": "a", "shape": [1], "datatype": "INT16", "parameters": {"binary_data_size": 2}},
        ]
        outputs = [{"name": "back_a"}, {"name": "back_b", "parameters": {"binary_data": True}}]
        answer = ask(client, {"id": "7", "inputs": inputs, "outputs": outputs}, b"\x05\x00")
    both = tensors(answer)
    assert both["back_a"][0]["data"] == [5]
    assert both["back_b"][1] == b"\x02\x00\x00\x00" + "é".encode()
    assert answer.headers["content-type"] == "application/octet-stream"
    assert orjson.loads(answer.body[: int(answer.headers[HEADER])])["id"] == "7"


@pytest.mark.parametrize(("of_all", "own", "binary"), [(True, False, False), (False, True, True), (True, None, True)])
def test_the_wish_for_one_output_wins_over_that_for_all(of_all: bool, own: bool | None, binary: bool) -> None:
    output = {"name": "y", "parameters": {} if own is None else {"binary_data": own}}
    with InProcess(Pipeline(FakeBackend())) as client:
        body = {"inputs": [GOOD], "outputs": [output], "parameters": {"binary_data_output": of_all}}
        answer = ask(client, body, X)
    assert (HEADER in answer.headers) is binary
    assert answer.headers["content-type"] == ("application/octet-stream" if binary else "application/json")


def test_a_question_in_json_may_want_a_binary_answer() -> None:
    body = {"inputs": [{**GOOD, "parameters": {}, "data": [1, 2]}], "parameters": {"binary_data_output": True}}
    with InProcess(Pipeline(FakeBackend())) as client:
        answer = client.request("POST", PATH, orjson.dumps(body), {"content-type": "application/json"})
    assert tensors(answer)["y"][1] == np.array([3, 5], np.float32).tobytes()


@pytest.mark.parametrize(
    "request_",
    [
        double(parameters={"binary_data_output": True}),
        double(outputs=[{"name": "sum", "parameters": {"binary_data": True}}, {"name": "y"}], id="7"),
        double(outputs=[{"name": "y", "parameters": {"classification": 1}}]),
        post("/v1/models/double:predict", '{"inputs":[[1,2]]}'),
        post("/v1/models/double:regress", '{"examples":[{"x":[1,2]}]}'),
        post("/v2/models/double/generate", '{"x":[1,2]}'),
        post("/predictions/double/1", '{"x":[1,2]}'),
    ],
    ids=range(7),
)
def test_the_lane_answers_every_form_as_asgi_does(request_: bytes, lane_server: Served, asgi_server: Served) -> None:
    lane, asgi = lane_server.ask(request_), asgi_server.ask(request_)
    assert lane.status == 200
    assert lane.comparable() == asgi.comparable()


def test_json_that_calls_itself_bytes_is_read() -> None:
    body = {"inputs": [{**GOOD, "parameters": {}, "data": [1, 2]}]}
    with InProcess(Pipeline(FakeBackend())) as client:
        answer = client.request("POST", PATH, orjson.dumps(body), {"content-type": "application/octet-stream"})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("spec", "raw", "shape"),
    [
        (TensorSpec("x", Datatype.FP32, (2,)), X, [1, 2]),
        (TensorSpec("x", Datatype.FP32, (2,)), X * 3, [3, 2]),
        (TensorSpec("x", Datatype.FP32, (None,)), X, [1, 2]),
        (TensorSpec("x", Datatype.FP32), X, [2]),
    ],
    ids=str,
)
def test_a_body_without_json_is_the_only_input(spec: TensorSpec, raw: bytes, shape: Sequence[int]) -> None:
    with InProcess(echo(spec)) as client:
        output, data = tensors(ask(client, b"", raw, "0"))["back_x"]
    assert output["shape"] == shape
    assert data == raw


def test_a_body_without_json_is_the_only_element_of_bytes() -> None:
    with InProcess(echo(TensorSpec("x", Datatype.BYTES))) as client:
        _, data = tensors(ask(client, b"", b"\x89PNG", "0"))["back_x"]
    assert data == b"\x04\x00\x00\x00\x89PNG"


@pytest.mark.parametrize("spec", [TensorSpec("x", Datatype.FP32, (None, None)), TensorSpec("x", Datatype.FP32, (3,))], ids=str)
def test_a_body_without_json_that_leaves_the_shape_open_is_refused(spec: TensorSpec) -> None:
    with InProcess(echo(spec)) as client:
        refused(ask(client, b"", X, "0"), "wrong_shape")


def test_a_body_without_json_is_refused_for_two_inputs() -> None:
    with InProcess(echo(TensorSpec("a", Datatype.INT8), TensorSpec("b", Datatype.INT8))) as client:
        refused(ask(client, b"", b"1", "0"), "invalid_body")


def sized(size: object, **change: object) -> dict[str, object]:
    return {**GOOD, "parameters": {"binary_data_size": size}, **change}


@pytest.mark.parametrize(
    ("inputs", "raw", "code"),
    [
        ([sized(-1)], X, "invalid_body"),
        ([sized(9)], X, "invalid_body"),
        ([sized(2**63)], X, "invalid_body"),
        ([sized(True)], X, "invalid_body"),
        ([sized(8.0)], X, "invalid_body"),
        ([sized("8")], X, "invalid_body"),
        ([sized([8])], X, "invalid_body"),
        ([sized(7)], X[:7], "wrong_shape"),
        ([sized(4)], X[:4], "wrong_shape"),
        ([sized(0)], b"", "wrong_shape"),
        ([sized(8)], X + b"left over", "invalid_body"),
        ([sized(8, data=[1, 2])], X, "invalid_body"),
        ([{**GOOD, "parameters": {}}], X, "invalid_body"),
        ([{**GOOD, "parameters": {}, "data": [1, 2]}], X, "invalid_body"),
        ([sized(8), sized(8)], X + X, "duplicate_input"),
        ([sized(8, name="z")], X, "unknown_input"),
        ([sized(8, datatype="fp32")], X, "unknown_datatype"),
        ([sized(8, datatype="FP64")], X, "wrong_shape"),
        ([sized(8, shape=[-1, 2])], X, "wrong_shape"),
        ([sized(8, shape=[2**63])], X, "wrong_shape"),
        ([sized(8, shape=[4294967296, 4294967296])], X, "wrong_shape"),
        ([sized(0, shape=[0, 2**63])], b"", "wrong_shape"),
        ([sized(0, shape=[0, 2])], b"", "wrong_rows"),
        ([sized(8, shape=[1] * 10_000)], X, "wrong_shape"),
        ([sized(8, shape=[10**400] * 32)], X, "wrong_shape"),
        ([], b"", "missing_input"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_binary_tensor_that_does_not_fit_is_refused(inputs: list[object], raw: bytes, code: str) -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        body = b'{"inputs":[%b]}' % b",".join(dumped(each) for each in inputs)
        refused(ask(client, body, raw), code)


def dumped(value: object) -> bytes:
    """JSON with whole numbers of any size."""
    import json

    return json.dumps(value).encode()


@pytest.mark.parametrize("header", ["", "-1", "+5", "1e2", "0x10", "5,5", "9" * 30, "99999", "²", " 5 5"], ids=repr)
def test_a_header_length_that_cannot_be_is_refused(header: str) -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        refused(ask(client, {"inputs": [GOOD]}, X, header), "invalid_body")


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_header_length_off_by_one_is_refused(shift: int) -> None:
    text = orjson.dumps({"inputs": [GOOD]})
    with InProcess(Pipeline(FakeBackend())) as client:
        assert ask(client, text, X, str(len(text) + shift)).status == 400


def test_binary_data_without_the_header_is_refused() -> None:
    body = orjson.dumps({"inputs": [{**GOOD, "data": [1, 2]}]})
    with InProcess(Pipeline(FakeBackend())) as client:
        refused(client.request("POST", PATH, body, {"content-type": "application/json"}), "invalid_body")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\xff\xff\xff\xff", "invalid_body"),
        (b"\xff\xff\xff\xffab", "invalid_body"),
        (b"\x03\x00\x00\x00ab", "invalid_body"),
        (b"\x02\x00\x00\x00abc", "wrong_shape"),
        (b"\x01\x00\x00\x00a\x01\x00\x00\x00b", "wrong_shape"),
        (b"\x01\x00", "wrong_shape"),
        (b"", "wrong_shape"),
    ],
)
def test_lengths_of_bytes_that_lie_are_refused(raw: bytes, code: str) -> None:
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    with InProcess(echo(TensorSpec("x", Datatype.BYTES))) as client:
        refused(ask(client, {"inputs": [tensor]}, raw), code)


def test_a_boolean_is_a_byte_of_zero_or_one() -> None:
    tensor = {"name": "x", "shape": [3], "datatype": "BOOL", "parameters": {"binary_data_size": 3}}
    with InProcess(echo(TensorSpec("x", Datatype.BOOL))) as client:
        refused(ask(client, {"inputs": [tensor]}, b"\x00\x01\x02"), "lossy_value")


@pytest.mark.parametrize(
    "parameters",
    [
        {"binary_data_output": 1},
        {"priority": -1},
        {"priority": 2**64},
        {"priority": True},
        {"sequence_id": -1},
        {"sequence_id": 1.5},
        {"sequence_start": "yes"},
        {"sequence_end": 0},
        {"timeout": "1"},
    ],
    ids=str,
)
def test_a_parameter_that_cannot_be_is_refused(parameters: dict[str, object]) -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        body = dumped({"inputs": [GOOD], "parameters": parameters})
        refused(ask(client, body, X), "unknown_parameter")


@pytest.mark.parametrize(
    "parameters", [{"priority": 3}, {"sequence_id": "a", "sequence_start": True}, {"sequence_id": 7}, {"my_own": [1]}], ids=str
)
def test_parameters_of_other_servers_are_taken(parameters: dict[str, object]) -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        assert ask(client, {"inputs": [GOOD], "parameters": parameters}, X).status == 200


SCORES = TensorSpec("x", Datatype.FP32, (3,))
SCORED = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}


def classified(pipeline: Pipeline, wanted: dict[str, object]) -> Response:
    raw = np.array([0.25, 0.5, 0.125], np.float32).tobytes()
    with InProcess(pipeline) as client:
        return ask(client, {"inputs": [SCORED], "outputs": [{"name": "back_x", "parameters": wanted}]}, raw)


def test_a_classification_is_the_largest_values_with_their_places() -> None:
    (output,) = classified(echo(SCORES), {"classification": 2}).json()["outputs"]
    assert output == {"name": "back_x", "datatype": "BYTES", "shape": [1, 2], "data": ["0.5:1", "0.25:0"]}


def test_a_classification_may_be_binary_and_has_the_labels_of_the_pipeline() -> None:
    pipeline = Pipeline(echo(SCORES).model, labels={"back_x": ["a", "b", "c"]})
    _, data = tensors(classified(pipeline, {"classification": 9, "binary_data": True}))["back_x"]
    assert data == b"".join(len(each).to_bytes(4, "little") + each for each in (b"0.5:1:b", b"0.25:0:a", b"0.125:2:c"))


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "1", 10**30])
def test_a_number_of_classes_that_cannot_be_is_refused(count: object) -> None:
    body = dumped({"inputs": [SCORED], "outputs": [{"name": "back_x", "parameters": {"classification": count}}]})
    with InProcess(echo(SCORES)) as client:
        answer = ask(client, body, b"\0" * 12)
    assert answer.status == (200 if count == 10**30 else 400)


def test_a_classification_of_texts_is_refused() -> None:
    body = {
        "inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}],
        "outputs": [{"name": "back_x", "parameters": {"classification": 1}}],
    }
    with InProcess(echo(TensorSpec("x", Datatype.BYTES))) as client:
        refused(ask(client, body), "unknown_parameter")
