"""The row door: JSON rows, CSV, NDJSON, one text or image; what comes out can be sent in again."""

import json
import math
from typing import Any

import numpy as np
import pytest

from foretell.modes.http.rows import example_row
from foretell.pipeline import Pipeline
from foretell.tensors import Array, Datatype, Signature, TensorSpec
from foretell.testing import FakeBackend, InProcess, Response
from tests.modes.http.test_tensors import echo

TABLE = (TensorSpec("age", Datatype.FP32), TensorSpec("count", Datatype.INT64), TensorSpec("name", Datatype.BYTES))
ROW = {"age": 1.5, "count": 2**62, "name": "ä"}


def ask(pipeline: Pipeline, body: str | bytes, kind: str = "application/json") -> Response:
    with InProcess(pipeline) as client:
        content = body.encode() if isinstance(body, str) else body
        return client.request("POST", "/predict/m", content, {"content-type": kind} if kind else {})


def predictions(answer: Response) -> Any:
    assert answer.status == 200, answer.body
    return answer.json()["predictions"]


def back(row: dict[str, Any]) -> dict[str, Any]:
    return {f"back_{name}": value for name, value in row.items()}


@pytest.mark.parametrize(
    ("body", "kind", "count"),
    [
        (json.dumps(ROW), "application/json", 1),
        (json.dumps([ROW, ROW]), "application/json", 2),
        (json.dumps([ROW]), "", 1),
        (json.dumps(ROW) + "\n\n" + json.dumps(ROW) + "\n", "application/x-ndjson", 2),
        ("age,count,name\n1.5,4611686018427387904,ä\n", "text/csv", 1),
        ("\ufeffname,age,count\r\nä,1.5,4611686018427387904\r\n", "text/csv; charset=utf-8", 1),
    ],
)
def test_rows_come_in_every_form(body: str, kind: str, count: int) -> None:
    assert predictions(ask(echo(*TABLE), body, kind)) == [back(ROW)] * count


def test_the_answer_names_model_and_version() -> None:
    answer = ask(Pipeline(FakeBackend()), '{"x":[1,2]}').json()
    assert answer == {"model_name": "m", "model_version": "1", "predictions": [{"y": [3.0, 5.0]}]}


def test_a_row_of_one_input_may_be_its_bare_value() -> None:
    assert predictions(ask(Pipeline(FakeBackend()), " [[1,2], [3,4]]")) == [{"y": [3.0, 5.0]}, {"y": [7.0, 9.0]}]
    assert predictions(ask(echo(TensorSpec("x", Datatype.BYTES)), '["a"]')) == [{"back_x": "a"}]


@pytest.mark.parametrize("shape", [(), (2,), (2, 1)], ids=str)
@pytest.mark.parametrize("datatype", [each for each in Datatype if each.is_float], ids=str)
def test_nan_and_the_infinities_are_strings_both_ways(datatype: Datatype, shape: tuple[int, ...]) -> None:
    row: Any = np.full(shape, 1.5).tolist()
    for value in ("NaN", "Infinity", "-Infinity"):
        sent = json.loads(json.dumps(row).replace("1.5", f'"{value}"', 1))
        assert predictions(ask(echo(TensorSpec("x", datatype, shape)), json.dumps([{"x": sent}]))) == [{"back_x": sent}]


def test_null_and_an_empty_cell_are_nan_in_a_float_column() -> None:
    pipeline = echo(TensorSpec("x", Datatype.FP32), TensorSpec("y", Datatype.FP32))
    assert predictions(ask(pipeline, '{"x":null,"y":1}')) == [{"back_x": "NaN", "back_y": 1.0}]
    assert predictions(ask(pipeline, "x,y\n,1\n", "text/csv")) == [{"back_x": "NaN", "back_y": 1.0}]


@pytest.mark.parametrize("datatype", list(Datatype), ids=str)
def test_what_comes_out_can_be_sent_in_again(datatype: Datatype) -> None:
    value: object = "ä" if datatype is Datatype.BYTES else datatype is Datatype.BOOL or 1
    pipeline = echo(TensorSpec("x", datatype, (2,)))
    (first,) = predictions(ask(pipeline, json.dumps({"x": [value, value]})))
    (second,) = predictions(ask(pipeline, json.dumps({"x": first["back_x"]})))
    assert first == second == {"back_x": [value, value]}


def test_bytes_that_are_no_text_are_base64_objects_both_ways() -> None:
    pipeline = echo(TensorSpec("x", Datatype.BYTES, (2,)))
    row = {"x": [{"b64": "/w=="}, "null"]}
    assert predictions(ask(pipeline, json.dumps(row))) == [back(row)]


@pytest.mark.parametrize(
    ("kind", "body"), [("text/plain", "a\nb"), ("image/png", "a\nb"), ("application/octet-stream", "a\nb")]
)
def test_one_text_or_image_is_one_row(kind: str, body: str) -> None:
    assert predictions(ask(echo(TensorSpec("x", Datatype.BYTES)), body, kind)) == [{"back_x": body}]


def test_a_model_without_rows_answers_one_row() -> None:
    pipeline = echo(TensorSpec("x", Datatype.FP32, (2,)), rows=False)
    assert predictions(ask(pipeline, '{"x":[1,2]}')) == [{"back_x": [1.0, 2.0]}]


def test_a_model_without_rows_refuses_two() -> None:
    answer = ask(echo(TensorSpec("x", Datatype.FP32, (2,)), rows=False), '[{"x":[1,2]},{"x":[3,4]}]')
    assert (answer.status, answer.json()["code"]) == (400, "wrong_rows")


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ('{"age":1}', "application/json", "bad_row"),
        (json.dumps({**ROW, "age": "1"}), "application/json", "bad_row"),
        (json.dumps({**ROW, "count": 1.5}), "application/json", "bad_row"),
        (json.dumps({**ROW, "count": 2**63}), "application/json", "lossy_value"),
        (json.dumps({**ROW, "age": 1e39}), "application/json", "lossy_value"),
        (json.dumps({**ROW, "name": {"b64": "#"}}), "application/json", "bad_text"),
        ("[]", "application/json", "wrong_rows"),
        ("{", "application/json", "invalid_json"),
        ("", "application/json", "invalid_json"),
        ("7", "application/json", "bad_row"),
        ("[" * 100_000, "application/json", "bad_row"),
        ("age,count\n1,2\n", "text/csv", "bad_row"),
        ("age,count,name\n1,x,a\n", "text/csv", "bad_row"),
        ("age,count,name\n1,2\n", "text/csv", "bad_row"),
        ("age,age,count,name\n1,1,2,a\n", "text/csv", "bad_row"),
        ("age,count,name\n1," + "9" * 30 + ",a\n", "text/csv", "lossy_value"),
        ("age,count,name\n1e39,1,a\n", "text/csv", "lossy_value"),
        ("age,count,name\n", "text/csv", "bad_row"),
        ("", "text/csv", "invalid_body"),
        (b"\xff\xfe", "text/csv", "invalid_body"),
        ('age,count,name\n"' + "a" * 200_000 + '",1,a\n', "text/csv", "invalid_body"),
        ('age,count,name\n1,2,"a\n1,2,b\n', "text/csv", "bad_row"),
        ('age,count,name\n"1,2,a\n"1,2,b\n', "text/csv", "bad_row"),
        ('age,"count,name\n1,2,a\n', "text/csv", "bad_row"),
        ("\n", "application/x-ndjson", "wrong_rows"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_does_not_fit_is_refused(body: str | bytes, kind: str, code: str) -> None:
    answer = ask(echo(*TABLE), body, kind)
    assert (answer.status, answer.json()["code"]) == (400, code), answer.body
    assert len(answer.body) < 1000


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (json.dumps({**ROW, "age": "hello"}), "application/json", "age must be a number, got 'hello'"),
        (json.dumps([ROW, {**ROW, "age": "hello"}]), "application/json", "row 1: age must be a number, got 'hello'"),
        (
            json.dumps(ROW) + "\n" + json.dumps({**ROW, "age": True}),
            "application/x-ndjson",
            "row 1: age must be a number, got true",
        ),
        (json.dumps({**ROW, "count": 1.5}), "application/json", "count must be a whole number, got 1.5"),
        (json.dumps({**ROW, "name": 1}), "application/json", "name must be text, got 1"),
        (json.dumps({**ROW, "name": [1]}), "application/json", "name must be text, got a list"),
        (json.dumps({"Age": 1, "count": 1}), "application/json", "there is no column 'age': is it the one called 'Age'?"),
        (json.dumps([ROW, {"count": 1}]), "application/json", "row 1: there is no column 'age'"),
        ("[1]", "application/json", "row 0: a row must be an object: its keys are age, count, name"),
        ("7", "application/json", "the body must be a row, which is an object, or a list of rows"),
        ("", "application/json", "the body is empty"),
        (" ", "text/csv", "the body is empty"),
        ("[]", "application/json", "send at least one row"),
        ("\n", "application/x-ndjson", "send at least one row"),
        ("age,count,name\n", "text/csv", "the body has one line: `curl -d` drops newlines, use --data-binary"),
        ("age,count,name\r\r", "text/csv", "the body has one line"),
        (json.dumps(ROW) * 2, "application/x-ndjson", "the body has one line: `curl -d`"),
        ("Age,count,name\n1,1,a\n", "text/csv", "there is no column 'age': is it the one called 'Age'?"),
        ("age,age,count,name\n1,1,1,a\n", "text/csv", "two columns are named 'age'"),
        ("age;count;name\n1;1;a\n", "text/csv", "the CSV is separated by ;: this reads commas"),
        (
            'age,count,name\n1,2,"a\nb"\n"1,2,c\n"1,2,d\n',
            "text/csv",
            "row 1, in line 4, has a quote that is not closed in front of a comma or a line end: close it, remove it, or write",
        ),
        ('age,"count,name\n1,2,a\n', "text/csv", "the header has a quote that is not closed"),
        ('age,count,name\n1,2,"' + "a\n" * 99_999, "text/csv", "row 0, in line 2, has a cell of more than 131,072 characters"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_refusal_says_what_is_wrong_in_the_words_of_the_row(body: str, kind: str, says: str) -> None:
    told = ask(echo(*TABLE), body, kind).json()["error"]
    assert says in told
    assert len(told) < 150


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"x":[1,"a"]}', "x[1] must be a number, got 'a'"),
        ('{"x":1}', "x must be a list: the model takes FP32 [2] a row, got 1"),
        ('[[1,2],[1,"a"]]', "row 1: x[1] must be a number, got 'a'"),
        ("[[1,2],3]", "row 1: x must be a list"),
        ('[{"x":[1,2]},{"y":1}]', "row 1: there is no column 'x'"),
    ],
)
def test_a_wrong_element_of_a_tensor_is_told_by_its_place(body: str, says: str) -> None:
    assert ask(Pipeline(FakeBackend()), body).json()["error"].startswith(says)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps({**ROW, "id": [1], "more": {"a": None}}), "application/json"),
        (json.dumps({**ROW, "id": 1}) + "\n", "application/x-ndjson"),
        ("id,age,count,name\n7,1.5,4611686018427387904,ä\n", "text/csv"),
    ],
)
def test_columns_that_no_input_needs_are_passed_over(body: str, kind: str) -> None:
    assert predictions(ask(echo(*TABLE), body, kind)) == [back(ROW)]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "image/png", "a" * 1000])
def test_another_content_type_is_refused_with_those_that_are_read(kind: str) -> None:
    answer = ask(echo(*TABLE), "a=b", kind)
    assert (answer.status, answer.json()["code"]) == (415, "unsupported_content_type")
    assert answer.json()["supported"] == "application/json, application/x-ndjson, text/csv"


ONE_FILE = TensorSpec("x", Datatype.BYTES)
PNG = b"\x89PNG\r\n\x1a\n\x00"


@pytest.mark.parametrize("body", [PNG, b"a line of text\n", b"\xff[", b'"quoted"'], ids=repr)
def test_a_body_without_a_content_type_is_the_file_itself_for_a_model_that_takes_one(body: bytes) -> None:
    as_file = predictions(ask(echo(ONE_FILE), body, "application/octet-stream"))
    assert predictions(ask(echo(ONE_FILE), body, "")) == as_file


@pytest.mark.parametrize("body", ['["a"]', ' {"x": "a"}', '[{"x": "a"}]'])
def test_rows_without_a_content_type_stay_json_for_it_too(body: str) -> None:
    assert predictions(ask(echo(ONE_FILE), body, "")) == [{"back_x": "a"}]


def test_a_file_that_is_called_json_is_refused() -> None:
    answer = ask(echo(ONE_FILE), PNG, "application/json")
    assert (answer.status, answer.json()["code"]) == (400, "invalid_json")


def test_a_body_without_a_content_type_is_json_for_other_models() -> None:
    assert ask(echo(*TABLE), PNG, "").json()["code"] == "invalid_json"


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "application/x-www-form-urlencoded"])
def test_a_form_is_refused_with_what_to_type_instead(kind: str) -> None:
    answer = ask(echo(ONE_FILE), PNG, kind)
    assert (answer.status, answer.json()["code"]) == (415, "unsupported_content_type")
    assert answer.json()["error"].endswith("with curl: -H 'content-type: application/octet-stream' --data-binary @FILE")
    assert answer.json()["supported"].endswith("image/*, text/plain, application/octet-stream")
    told = ask(echo(*TABLE), PNG, kind).json()["error"]
    assert told.endswith("with curl: -H 'content-type: application/json' --data-binary @FILE")


def test_a_whole_number_column_of_csv_keeps_all_its_digits() -> None:
    pipeline = echo(TensorSpec("x", Datatype.UINT64))
    assert predictions(ask(pipeline, f"x\n{2**64 - 1}\n", "text/csv")) == [{"back_x": 2**64 - 1}]


def test_boolean_cells_are_words_or_digits() -> None:
    pipeline = echo(TensorSpec("x", Datatype.BOOL))
    told = predictions(ask(pipeline, "x\ntrue\nFALSE\n1\n0\n", "text/csv"))
    assert [row["back_x"] for row in told] == [True, False, True, False]
    assert ask(pipeline, "x\n2\n", "text/csv").status == 400


def test_a_float32_comes_back_bit_by_bit() -> None:
    values = [math.nextafter(1, 2), 1e-45, 3.4028234663852886e38, -0.0, 0.1]
    pipeline = echo(TensorSpec("x", Datatype.FP32))
    told = predictions(ask(pipeline, json.dumps([{"x": value} for value in values])))
    sent: Array = np.array(values, dtype=np.float32)
    assert np.array([row["back_x"] for row in told], dtype=np.float32).tobytes() == sent.tobytes()


def test_the_example_row_is_one_that_the_door_takes() -> None:
    specs = (*TABLE, TensorSpec("grid", Datatype.BOOL, (None, 2)), TensorSpec("half", Datatype.FP16, (3,)))
    row = example_row(Signature(specs, ()))
    assert row["grid"] == [[False, False]]
    assert ask(echo(*specs), json.dumps(row)).status == 200
