"""Rows of a file: every form that the row door takes, and a clear sentence for what does not fit."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from foretell.bench.bodies import Model
from foretell.bench.rows import read_rows
from foretell.errors import Setup

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
IN_BASE64 = {"b64": base64.b64encode(PNG).decode()}


def model(**inputs: tuple[str, list[int]]) -> Model:
    return Model("m", [{"name": name, "datatype": datatype, "shape": shape} for name, (datatype, shape) in inputs.items()])


PICTURE = model(image=("BYTES", [-1]))
NUMBERS = model(x=("FP32", [-1, 2]))
TWO = model(age=("INT64", [-1]), name=("BYTES", [-1]))


def written(folder: Path, content: object, name: str = "rows.json") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize(
    "content", [[{"image": IN_BASE64}], {"image": IN_BASE64}, [IN_BASE64], IN_BASE64, [{"image": IN_BASE64, "other": 1}]]
)
def test_bytes_that_are_no_text_are_written_in_base64(tmp_path: Path, content: object) -> None:
    (request,) = read_rows(PICTURE, written(tmp_path, content), 1)
    assert request["image"].tolist() == [PNG]


def test_a_picture_is_a_row_of_its_own(tmp_path: Path) -> None:
    (request,) = read_rows(PICTURE, written(tmp_path, PNG, "digit.png"), 1)
    assert request["image"].tolist() == [PNG]


def test_each_line_of_an_ndjson_file_is_a_row(tmp_path: Path) -> None:
    path = written(tmp_path, b'{"age": 1, "name": "a"}\n\n{"age": 2, "name": "b"}\n', "rows.ndjson")
    first, second = read_rows(TWO, path, 1)
    assert (first["age"].tolist(), second["name"].tolist()) == ([1], [b"b"])


def test_rows_are_cut_into_requests_and_what_is_left_over_is_not_sent(tmp_path: Path) -> None:
    requests = read_rows(NUMBERS, written(tmp_path, [[1, 2], [3, 4], [5, 6]]), 2)
    assert [request["x"].tolist() for request in requests] == [[[1, 2], [3, 4]]]


def test_fewer_rows_than_a_request_takes_go_round(tmp_path: Path) -> None:
    (request,) = read_rows(PICTURE, written(tmp_path, [IN_BASE64, "a"]), 3)
    assert request["image"].tolist() == [PNG, b"a", PNG]


def test_a_model_without_rows_gets_one_row_a_request_as_it_is(tmp_path: Path) -> None:
    whole = model(x=("FP32", [2]))
    assert [request["x"].tolist() for request in read_rows(whole, written(tmp_path, [[1, 2], [3, 4]]), 1)] == [[1, 2], [3, 4]]
    np.save(tmp_path / "one.npy", np.ones(2))
    assert [request["x"].tolist() for request in read_rows(whole, tmp_path / "one.npy", 1)] == [[1, 1]]


@pytest.mark.parametrize(
    ("asked", "content", "told"),
    [
        (
            TWO,
            [{"age": 1, "name": "a"}, {"age": 1, "nam": "a"}],
            "row 1: there is no column 'name': is it the one called 'nam'",
        ),
        (TWO, [{"age": "x", "name": "a"}], "row 0: input age must be a whole number, got 'x'"),
        (TWO, [{"age": 1, "name": None}], "row 0: input name must be text, got null"),
        (TWO, [{"age": 2**70, "name": "a"}], "INT64"),
        (TWO, [1, 2], "a row must be an object"),
        (TWO, [None], "a row must be an object"),
        (TWO, [], "has no rows"),
        (TWO, b"", "it is empty"),
        (TWO, b"nope", "not valid JSON"),
        (TWO, PNG, "not valid JSON"),
        (PICTURE, [{"image": [1, 2]}], "must be text"),
        (PICTURE, [{"image": {"b64": "!!"}}], "not base64"),
        (NUMBERS, [{"x": [1, 2]}, {"x": [3]}], "x"),
    ],
)
def test_json_that_does_not_fit_is_told_in_a_sentence(tmp_path: Path, asked: Model, content: object, told: str) -> None:
    with pytest.raises(Setup) as refused:
        read_rows(asked, written(tmp_path, content), 1)
    assert told in refused.value.message
    assert "Error" not in refused.value.message


@pytest.mark.parametrize(
    ("asked", "array", "told"),
    [
        (NUMBERS, np.float32(3), "no axis of rows"),
        (NUMBERS, np.array(["a"]), "datatype BYTES, the model takes FP32"),
        (NUMBERS, np.zeros((2, 2), np.complex64), "complex64"),
        (NUMBERS, np.zeros((0, 2)), "has no rows"),
        (model(x=("INT8", [-1])), np.array([300]), "cannot be held in INT8"),
        (TWO, np.zeros(3), "an .npy file holds one input, the model takes 2"),
    ],
)
def test_an_npy_file_that_does_not_fit_is_told_in_a_sentence(
    tmp_path: Path, asked: Model, array: np.ndarray, told: str
) -> None:
    np.save(tmp_path / "rows.npy", array)
    with pytest.raises(Setup) as refused:
        read_rows(asked, tmp_path / "rows.npy", 1)
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("name", "asked"), [("rows.npy", PICTURE), ("rows.csv", PICTURE), ("rows.parquet", TWO), ("rows", TWO)]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, asked: Model) -> None:
    with pytest.raises(Setup, match=r"no \.npy file|rows are read from"):
        read_rows(asked, written(tmp_path, b"a,b\n1,2\n", name), 1)
