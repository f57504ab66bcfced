"""The tensor door: what the Open Inference Protocol says, and a refusal for all else."""

from typing import Any

import numpy as np
import orjson
import pytest

from foretell.backends.python import PythonModel
from foretell.codes import CODES
from foretell.engine.part import split
from foretell.modes.http.tensors import MOST_TOGETHER, write_part, write_tensor
from foretell.pipeline import Pipeline
from foretell.tensors import Array, Datatype, Signature, TensorSpec
from foretell.testing import FakeBackend, InProcess, Response

PATH = "/v2/models/m/infer"
GOOD = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


def echo(*specs: TensorSpec, rows: bool = True) -> Pipeline:
    """A pipeline that gives back what it takes, under the names ``back_...``."""
    outputs = tuple(TensorSpec(f"back_{spec.name}", spec.dtype, spec.shape) for spec in specs)
    return Pipeline(
        PythonModel(Signature(specs, outputs, rows), lambda arrays: {f"back_{name}": array for name, array in arrays.items()})
    )


def ask(client: InProcess, body: object) -> Response:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return client.request("POST", PATH, raw, {"content-type": "application/json"})


def refusal(answer: Response) -> Any:
    told = answer.json()
    assert answer.status == 400, told
    assert told["code"] in CODES
    return told


def test_an_answer_has_the_form_of_the_protocol() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        answer = ask(client, {"id": "7", "inputs": [GOOD]})
    assert answer.status == 200
    assert answer.json() == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [3.0, 5.0]}],
    }


def test_data_may_be_nested() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        flat = ask(client, {"inputs": [{**GOOD, "shape": [2, 2], "data": [1, 2, 3, 4]}]})
        nested = ask(client, {"inputs": [{**GOOD, "shape": [2, 2], "data": [[1, 2], [3, 4]]}]})
    assert flat.body == nested.body


@pytest.mark.parametrize("datatype", list(Datatype), ids=str)
def test_every_datatype_goes_in_and_out(datatype: Datatype) -> None:
    data: list[Any] = ["a", "ä"] if datatype is Datatype.BYTES else [True, False] if datatype is Datatype.BOOL else [1, 2]
    with InProcess(echo(TensorSpec("x", datatype))) as client:
        answer = ask(client, {"inputs": [{"name": "x", "shape": [2], "datatype": str(datatype), "data": data}]})
    assert answer.json()["outputs"] == [{"name": "back_x", "datatype": str(datatype), "shape": [2], "data": data}]


def test_bytes_that_are_no_text_go_as_base64_both_ways() -> None:
    with InProcess(echo(TensorSpec("x", Datatype.BYTES))) as client:
        tensor = {"shape": [1], "datatype": "BYTES", "parameters": {"content_type": "base64"}, "data": ["/w=="]}
        answer = ask(client, {"inputs": [{"name": "x", **tensor}]})
    assert answer.json()["outputs"] == [{"name": "back_x", **tensor}]


def test_a_model_without_rows_takes_a_single_value() -> None:
    with InProcess(echo(TensorSpec("x", Datatype.FP32), rows=False)) as client:
        answer = ask(client, {"inputs": [{"name": "x", "shape": [], "datatype": "FP32", "data": "NaN"}]})
    assert answer.json()["outputs"] == [{"name": "back_x", "datatype": "FP32", "shape": [], "data": ["NaN"]}]


def test_only_the_outputs_that_were_asked_for_come() -> None:
    with InProcess(echo(TensorSpec("a", Datatype.INT8), TensorSpec("b", Datatype.INT8))) as client:
        inputs = [{"name": name, "shape": [1], "datatype": "INT8", "data": [1]} for name in "ab"]
        answer = ask(client, {"inputs": inputs, "outputs": [{"name": "back_b"}, {"name": "back_b"}]})
    assert [output["name"] for output in answer.json()["outputs"]] == ["back_b"]


def test_inputs_may_come_in_any_order_and_in_a_smaller_datatype() -> None:
    with InProcess(echo(TensorSpec("a", Datatype.FP64), TensorSpec("b", Datatype.INT64))) as client:
        inputs = [
            {"name": "b", "shape": [1], "datatype": "UINT8", "data": [255]},
            {"name": "a", "shape": [1], "datatype": "FP32", "data": [0.5]},
        ]
        assert [output["data"] for output in ask(client, {"inputs": inputs}).json()["outputs"]] == [[0.5], [255]]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"shape": [1, 3]}, "wrong_shape"),
        ({"shape": [-1, 2]}, "wrong_shape"),
        ({"shape": [0]}, "wrong_shape"),
        ({"shape": []}, "wrong_shape"),
        ({"shape": [2]}, "wrong_shape"),
        ({"shape": [4294967296, 4294967296]}, "wrong_shape"),
        ({"shape": [2**63]}, "wrong_shape"),
        ({"shape": [0, 2**63], "data": []}, "wrong_shape"),
        ({"shape": [0, 2**32, 2**32], "data": []}, "wrong_shape"),
        ({"shape": [0, 2], "data": []}, "wrong_rows"),
        ({"shape": [1] * 10_000}, "wrong_shape"),
        ({"shape": [1] * 32, "data": [1]}, "wrong_shape"),
        ({"shape": [1.0, 2]}, "invalid_json"),
        ({"shape": [True, 2]}, "invalid_json"),
        ({"shape": ["1", 2]}, "invalid_json"),
        ({"shape": None}, "invalid_json"),
        ({"datatype": "fp32"}, "unknown_datatype"),
        ({"datatype": ""}, "unknown_datatype"),
        ({"datatype": "FP32" * 250_000}, "unknown_datatype"),
        ({"datatype": "BYTES", "data": ["1", "2"]}, "wrong_dtype"),
        ({"datatype": "BOOL", "data": [True, False]}, "wrong_dtype"),
        ({"datatype": "FP64", "data": [0.1, 2]}, "lossy_value"),
        ({"data": [1]}, "wrong_shape"),
        ({"data": [1, 2, 3]}, "wrong_shape"),
        ({"data": [[1], [2]]}, "wrong_shape"),
        ({"data": [[[1, 2]]]}, "wrong_shape"),
        ({"data": "x"}, "wrong_dtype"),
        ({"data": None}, "wrong_dtype"),
        ({"name": "z"}, "unknown_input"),
        ({"name": "z" * 1_000_000}, "unknown_input"),
        ({"name": 1}, "invalid_json"),
        ({"parameters": []}, "invalid_json"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_in_a_short_sentence(change: dict[str, object], code: str) -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        answer = ask(client, {"inputs": [{**GOOD, **change}]})
    assert refusal(answer)["code"] == code
    assert len(answer.body) < 1000


@pytest.mark.parametrize("digits", [400, 4000])
def test_the_refusal_of_a_huge_size_is_short(digits: int) -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        body = b'{"inputs":[{"name":"x","shape":[%b],"datatype":"FP32","data":[1,2]}]}' % b",".join([b"9" * digits] * 16)
        answer = ask(client, body)
    refusal(answer)
    assert len(answer.body) < 1500


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"inputs": []}, "missing_input"),
        ({"inputs": [GOOD, GOOD]}, "duplicate_input"),
        ({"inputs": [GOOD, {**GOOD, "name": "z"}]}, "unknown_input"),
        ({"inputs": [GOOD], "outputs": [{"name": "z"}]}, "unknown_output"),
        ({"inputs": [GOOD], "id": 7}, "invalid_json"),
        ({"inputs": [GOOD], "parameters": {"timeout": -1}}, "unknown_parameter"),
        ({"inputs": [GOOD], "parameters": {"timeout": 1.5}}, "unknown_parameter"),
        ({"inputs": [GOOD], "parameters": {"timeout": True}}, "unknown_parameter"),
        ({"inputs": GOOD}, "invalid_json"),
        ({}, "invalid_json"),
        ([], "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"inputs":' + b"[" * 100_000, "invalid_json"),
        (b'{"inputs":[],"parameters":' + b'{"a":' * 100_000, "invalid_json"),
        (b'{"inputs":[],"id":"\\ud800"}', "invalid_json"),
        (b'{"inputs":[],"id":"\xff"}', "invalid_json"),
        (b'{"inputs":[]}{}', "invalid_json"),
    ],
    ids=lambda body: str(body)[:60],
)
def test_a_body_that_does_not_fit_is_refused(body: object, code: str) -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        assert refusal(ask(client, body))["code"] == code


@pytest.mark.parametrize("timeout", [0, 10**6, 2**63, 2**64, 10**400], ids=str)
def test_a_timeout_may_shorten_and_never_lengthen(timeout: int) -> None:
    body = orjson.dumps({"inputs": [GOOD]})[:-1] + b',"parameters":{"timeout":%d}}' % timeout
    with InProcess(Pipeline(FakeBackend())) as client:
        door = client.service.http.doors[PATH.encode()]
        request = door.read(body, b"", 100.0, 30.0)
        assert request.deadline == (101.0 if timeout == 10**6 else 130.0)


def test_a_refused_shape_allocates_nothing() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        answer = ask(client, {"inputs": [{**GOOD, "shape": [2**40, 2]}]})
    told = refusal(answer)
    assert "1099511627776" in told["error"]
    assert "2 values" in told["error"]


def test_the_outputs_of_a_batch_are_written_with_their_own_shape() -> None:
    spec = TensorSpec("x", Datatype.INT32, (None, 2))
    with InProcess(echo(spec)) as client:
        data = np.arange(12).reshape(2, 3, 2).tolist()
        answer = ask(client, {"inputs": [{"name": "x", "shape": [2, 3, 2], "datatype": "INT32", "data": data}]})
    (output,) = answer.json()["outputs"]
    assert (output["shape"], output["data"]) == ([2, 3, 2], list(range(12)))


WHOLES: dict[str, Array] = {
    "one number a row": np.arange(6, dtype=np.float32),
    "rows": np.arange(12, dtype=np.float32).reshape(6, 2) / 3,
    "doubles": np.arange(12, dtype=np.float64).reshape(6, 2) / 3,
    "pictures": np.arange(48, dtype=np.int64).reshape(6, 2, 2, 2),
    "columns first": np.asfortranarray(np.arange(12, dtype=np.int32).reshape(6, 2)),
    "nothing in a row": np.zeros((6, 0), np.float32),
    "NaN": np.array([[1, np.nan], *[[1, 2]] * 5], np.float32),
    "an infinity": np.array([[1, np.inf], *[[1, 2]] * 5], np.float64),
    "half floats": np.arange(12, dtype=np.float16).reshape(6, 2),
    "flags": np.array([[True, False]] * 6),
    "texts": np.array([[b"],[", b"a"]] * 6, np.object_),
    "bytes": np.array([[b"\xff", b"a"]] * 6, np.object_),
    "large": np.zeros((6, MOST_TOGETHER), np.float32),
}


@pytest.mark.parametrize("name", WHOLES)
@pytest.mark.parametrize("counts", [[1] * 6, [2, 1, 3], [6]])
def test_the_text_of_a_part_is_that_of_its_rows_alone(name: str, counts: list[int]) -> None:
    for part in split({"y": WHOLES[name]}, counts):
        assert write_part("y", part) == write_tensor("y", part["y"])
