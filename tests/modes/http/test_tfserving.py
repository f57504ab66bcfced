"""TensorFlow Serving's REST interface, as its own documentation has it."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pytest

from foretell.backends.python import PythonModel
from foretell.codes import CODES
from foretell.pipeline import Pipeline
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec
from foretell.testing import FakeBackend, InProcess, Response
from tests.modes.http.test_tensors import echo

X = TensorSpec("x", Datatype.FP32)


def half_plus_three(*outputs: TensorSpec, rows: bool = True) -> Pipeline:
    def compute(arrays: Arrays) -> Arrays:
        return {spec.name: np.asarray(arrays["x"], np.float32) / 2 + 3 for spec in outputs}

    return Pipeline(PythonModel(Signature((X,), outputs, rows), compute))


def ask(pipeline: Pipeline, verb: str, body: object) -> Response:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    with InProcess(pipeline) as client:
        return client.request("POST", f"/v1/models/m:{verb}", raw, {"content-type": "application/json"})


def get(pipeline: Pipeline, path: str) -> Response:
    with InProcess(pipeline) as client:
        return client.request("GET", f"/v1/models/{path}")


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [1.0, 2.0, 5.0]}, {"predictions": [3.5, 4.0, 5.5]}),
        ({"instances": [{"x": 1.0}]}, {"predictions": [3.5]}),
        ({"signature_name": "serving_default", "instances": [1]}, {"predictions": [3.5]}),
        ({"inputs": [1.0, 2.0]}, {"outputs": [3.5, 4.0]}),
        ({"inputs": {"x": [1.0, 2.0]}}, {"outputs": [3.5, 4.0]}),
        ({"instances": ["NaN"]}, {"predictions": ["NaN"]}),
    ],
    ids=str,
)
def test_a_single_output_comes_without_its_name(body: object, answer: object) -> None:
    assert ask(half_plus_three(TensorSpec("y", Datatype.FP32)), "predict", body).json() == answer


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [1.0, 5.0]}, {"predictions": [{"y": 3.5, "z": 3.5}, {"y": 5.5, "z": 5.5}]}),
        ({"inputs": [1.0, 5.0]}, {"outputs": {"y": [3.5, 5.5], "z": [3.5, 5.5]}}),
    ],
    ids=str,
)
def test_several_outputs_come_with_their_names(body: object, answer: object) -> None:
    outputs = TensorSpec("y", Datatype.FP32), TensorSpec("z", Datatype.FP32)
    assert ask(half_plus_three(*outputs), "predict", body).json() == answer


def test_several_inputs_have_one_value_of_each_in_a_row() -> None:
    pipeline = echo(TensorSpec("tag", Datatype.BYTES), TensorSpec("signal", Datatype.INT64, (2,)))
    rows = [{"tag": "foo", "signal": [1, 2]}, {"tag": "bar", "signal": [3, 4]}]
    back = [{f"back_{name}": value for name, value in row.items()} for row in rows]
    assert ask(pipeline, "predict", {"instances": rows}).json() == {"predictions": back}
    columns = {"tag": ["foo", "bar"], "signal": [[1, 2], [3, 4]]}
    answer = ask(pipeline, "predict", {"inputs": columns}).json()
    assert answer == {"outputs": {f"back_{name}": column for name, column in columns.items()}}


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_bytes_go_as_base64_both_ways(form: str) -> None:
    value = {"b64": base64.b64encode(b"\x89PNG").decode()}
    answer = ask(echo(TensorSpec("x", Datatype.BYTES)), "predict", {form: [value]})
    assert answer.json() == {{"instances": "predictions", "inputs": "outputs"}[form]: [value]}


def test_an_output_named_as_bytes_is_always_base64() -> None:
    answer = ask(echo(TensorSpec("x_bytes", Datatype.BYTES)), "predict", {"instances": ["text"]})
    assert answer.json() == {"predictions": [{"b64": base64.b64encode(b"text").decode()}]}


def test_a_model_without_rows_takes_columns_and_a_single_row() -> None:
    pipeline = half_plus_three(TensorSpec("y", Datatype.FP32), rows=False)
    assert ask(pipeline, "predict", {"inputs": 1.0}).json() == {"outputs": 3.5}
    assert ask(pipeline, "predict", {"instances": [1.0]}).json() == {"predictions": [3.5]}


def scores(*outputs: TensorSpec, labels: Mapping[str, list[str]] | None = None) -> Pipeline:
    def compute(arrays: Arrays) -> Arrays:
        count = len(arrays["x"])
        names = np.empty((count, 2), dtype=object)
        names[:] = [b"car", b"bike"]
        known = {"scores": np.array([[0.25, 0.75]] * count, np.float32), "classes": names}
        return {spec.name: known[spec.name] for spec in outputs}

    return Pipeline(PythonModel(Signature((X,), outputs), compute), labels=labels)


SCORES, CLASSES = TensorSpec("scores", Datatype.FP32, (2,)), TensorSpec("classes", Datatype.BYTES, (2,))


@pytest.mark.parametrize(
    ("pipeline", "names"),
    [
        (scores(SCORES), ("", "")),
        (scores(SCORES, CLASSES), ("car", "bike")),
        (scores(SCORES, labels={"scores": ["cat", "dog"]}), ("cat", "dog")),
    ],
    ids=["without labels", "labels as an output", "labels of the pipeline"],
)
def test_classify_gives_pairs_of_label_and_score(pipeline: Pipeline, names: tuple[str, str]) -> None:
    answer = ask(pipeline, "classify", {"examples": [{"x": 1.0}, {"x": [2.0]}]})
    assert answer.json() == {"results": [[[names[0], 0.25], [names[1], 0.75]]] * 2}


def test_regress_gives_a_number_for_each_example() -> None:
    body = {"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]}
    assert ask(half_plus_three(TensorSpec("y", Datatype.FP32, ())), "regress", body).json() == {"results": [3.5, 4.0]}


def test_features_of_the_context_are_those_of_every_example() -> None:
    pipeline = echo(TensorSpec("a", Datatype.FP32), TensorSpec("b", Datatype.FP32))
    answer = ask(pipeline, "regress", {"context": {"b": 9}, "examples": [{"a": 1.0}, {"a": 2.0}]})
    assert answer.json() == {"results": [1.0, 2.0]}


def test_the_status_of_a_model_and_of_a_version() -> None:
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("m", "m/versions/1"):
        assert get(Pipeline(FakeBackend()), path).json() == {"model_version_status": [status]}


def test_the_metadata_of_a_model() -> None:
    told = get(half_plus_three(TensorSpec("y", Datatype.BYTES, (None, 3))), "m/metadata").json()
    assert told["model_spec"] == {"name": "m", "signature_name": "", "version": "1"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signature["outputs"]["y"]["dtype"] == "DT_STRING"
    sizes = [dim["size"] for dim in signature["outputs"]["y"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "-1", "3"]


def refused(answer: Response, status: int = 400) -> Any:
    told = answer.json()
    assert answer.status == status, told
    assert told["code"] in CODES
    assert isinstance(told["error"], str)
    return told["code"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[1]", "invalid_json"),
        ({}, "invalid_json"),
        ({"instances": [1], "inputs": [1]}, "invalid_json"),
        ({"instances": 1}, "invalid_json"),
        ({"instances": {"x": 1}}, "invalid_json"),
        ({"instances": []}, "wrong_rows"),
        ({"instances": [True]}, "bad_row"),
        ({"instances": ["a"]}, "bad_row"),
        ({"instances": [{"z": 1}]}, "bad_row"),
        ({"instances": [[1]]}, "bad_row"),
        ({"inputs": {"z": [1]}}, "unknown_input"),
        ({"inputs": {}}, "missing_input"),
        ({"inputs": [[1]]}, "bad_row"),
        ({"inputs": "a"}, "bad_row"),
        ({"inputs": None}, "bad_row"),
        ({"signature_name": "other", "instances": [1]}, "unknown_parameter"),
        (b'{"instances":[' + b"[" * 100_000, "invalid_json"),
        (b'{"inputs":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "invalid_json"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_question_that_does_not_fit_is_refused(body: object, code: str) -> None:
    assert refused(ask(half_plus_three(TensorSpec("y", Datatype.FP32)), "predict", body)) == code


@pytest.mark.parametrize(
    ("verb", "pipeline", "body", "code"),
    [
        ("classify", echo(TensorSpec("x", Datatype.INT8)), {"examples": [{"x": 1}]}, "invalid_body"),
        ("regress", echo(TensorSpec("x", Datatype.BYTES)), {"examples": [{"x": "a"}]}, "invalid_body"),
        ("regress", echo(X), {"examples": [{"z": 1}]}, "missing_input"),
        ("regress", echo(X), {"examples": []}, "wrong_rows"),
        ("regress", echo(X), {"examples": {}}, "invalid_json"),
        ("regress", echo(X), {"examples": [{"x": [1, 2]}]}, "bad_row"),
        ("regress", half_plus_three(X, rows=False), {"examples": [{"x": 1}]}, "invalid_body"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_examples_that_do_not_fit_are_refused(verb: str, pipeline: Pipeline, body: object, code: str) -> None:
    assert refused(ask(pipeline, verb, body)) == code


@pytest.mark.parametrize("path", ["z", "m/versions/9", "m/labels/stable", "z/metadata"])
def test_what_is_not_there_is_404(path: str) -> None:
    refused(get(Pipeline(FakeBackend()), path), 404)


def test_a_verb_is_asked_by_post() -> None:
    for path in ("m:predict", "m/versions/1:classify"):
        answer = get(Pipeline(FakeBackend()), path)
        assert refused(answer, 405) == "wrong_verb"
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("place", ["", "/versions/1"])
def test_explanations_are_refused_in_words(method: str, place: str) -> None:
    with InProcess(half_plus_three(TensorSpec("y", Datatype.FP32))) as client:
        answer = client.request(method, f"/v1/models/m{place}:explain", b"{}", {"content-type": "application/json"})
    assert (answer.status, answer.json()["code"]) == (404, "unknown_route")
    assert ":predict" in answer.json()["error"]
