"""Rows and labels from files: what is read, and what is refused before any work."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foretell.errors import ForetellError, Invalid, Setup
from foretell.evidence.case import open_case
from foretell.evidence.data import Data, read_data, split, tidy_labels
from foretell.evidence.verdict import Wanted
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec
from tests.evidence.simple import FEATURES, classifier, csv, labels, npz, rows

VECTOR = Signature((TensorSpec("x", Datatype.FP32, (FEATURES,)),), (TensorSpec("y", Datatype.FP32, (3,)),))
IMAGES = Signature((TensorSpec("image", Datatype.BYTES),), (TensorSpec("y", Datatype.FP32, (2,)),))


def refused(code: str, *words: str) -> pytest.RaisesExc[ForetellError]:
    def is_it(error: ForetellError) -> bool:
        return error.code == code and all(word in error.message for word in words)

    return pytest.RaisesExc(ForetellError, check=is_it)


def test_a_csv_has_its_labels_in_the_column_that_is_named_and_features_in_the_others(tmp_path: Path) -> None:
    made = rows(70)
    table = [[*row, f"kind {i % 2}"] for i, row in enumerate(made.tolist())]
    data = read_data(csv(tmp_path, "a,b,c,d,class", table), VECTOR, "class")
    assert np.array_equal(data.rows["x"], made)
    assert data.labels is not None
    assert data.labels[:2].tolist() == [b"kind 0", b"kind 1"]


def test_a_column_called_label_is_taken_for_labels(tmp_path: Path) -> None:
    data = read_data(csv(tmp_path, "x_0,x_1,x_2,x_3,label", [[*row, i % 3] for i, row in enumerate(rows(70).tolist())]), VECTOR)
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    assert data.labels[:4].tolist() == [0, 1, 2, 0]


def test_without_such_a_column_rows_have_no_labels(tmp_path: Path) -> None:
    assert read_data(csv(tmp_path, "x_0,x_1,x_2,x_3", rows(70).tolist()), VECTOR).labels is None


@pytest.mark.parametrize("suffix", ["ndjson", "parquet", "npz"])
def test_other_tables_say_the_same(suffix: str, tmp_path: Path) -> None:
    made = rows(80)
    truth = labels(made)
    path = tmp_path / f"rows.{suffix}"
    if suffix == "npz":
        np.savez(path, x=made, kind=truth)
    elif suffix == "parquet":
        pyarrow.parquet.write_table(pa.table({"x": list(made), "kind": truth}), path)
    else:
        path.write_text(
            "".join(
                json.dumps({"x": row, "kind": kind}) + "\n" for row, kind in zip(made.tolist(), truth.tolist(), strict=True)
            )
        )
    data = read_data(path, VECTOR, "kind")
    assert np.array_equal(data.rows["x"], made)
    assert data.labels is not None
    assert np.array_equal(data.labels, truth)


def test_a_folder_of_images_has_a_subfolder_for_each_class(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for number in range(40):
            Image.new("L", (4, 4), number).save(tmp_path / kind / f"{number:02}.png")
    data = read_data(tmp_path, IMAGES)
    assert data.labels is not None
    assert data.labels.tolist() == [b"cat"] * 40 + [b"dog"] * 40
    assert data.rows["image"][0].startswith(b"\x89PNG")


def test_a_label_column_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with refused("unlabelled", "target"):
        read_data(csv(tmp_path, "x_0,x_1,x_2,x_3,target", [[*row, 1] for row in rows(70).tolist()]), VECTOR, "targte")


def test_a_row_without_a_label_is_refused_by_its_number(tmp_path: Path) -> None:
    table = [[*row, "" if i == 7 else "a"] for i, row in enumerate(rows(70).tolist())]
    with refused("unlabelled", "row 7"):
        read_data(csv(tmp_path, "x_0,x_1,x_2,x_3,label", table), VECTOR)


def test_a_label_that_is_nan_is_refused_by_its_row(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=rows(70), label=np.where(np.arange(70) == 5, np.nan, 1.5))
    with refused("unlabelled", "row 5"):
        read_data(tmp_path / "rows.npz", VECTOR)


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with refused("too_few_rows", "20 rows"):
        read_data(npz(tmp_path, 20), VECTOR)


def test_rows_that_do_not_fit_the_signature_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.zeros((70, FEATURES + 1), np.float32))
    with pytest.raises(Invalid, match=r"wrong_shape|shape"):
        read_data(tmp_path / "rows.npz", VECTOR)


def test_a_table_without_the_columns_is_refused(tmp_path: Path) -> None:
    with refused("missing_column", "x"):
        read_data(csv(tmp_path, "a,b", [[1, 2]] * 70), VECTOR)


def test_a_pickled_array_is_refused_and_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.array([{}] * 70, object), allow_pickle=True)
    with refused("broken_file"):
        read_data(tmp_path / "rows.npz", VECTOR)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad: float, tmp_path: Path) -> None:
    made = rows()
    made[3, 1] = bad
    np.savez(tmp_path / "rows.npz", x=made, label=labels(made))
    with refused("unusable_rows", "NaN or infinities"):
        open_case(classifier(tmp_path), tmp_path / "rows.npz", Wanted())


def test_features_that_never_change_are_refused(tmp_path: Path) -> None:
    made = rows()
    made[:, 1:] = 2.0
    np.savez(tmp_path / "rows.npz", x=made, label=labels(rows()))
    with refused("unusable_rows", "3 of the 4 features"):
        open_case(classifier(tmp_path), tmp_path / "rows.npz", Wanted())


def test_a_few_features_that_never_change_are_a_remark(tmp_path: Path) -> None:
    made = rows()
    made[:, 0] = 2.0
    np.savez(tmp_path / "rows.npz", x=made, label=labels(rows()))
    case = open_case(classifier(tmp_path), tmp_path / "rows.npz", Wanted())
    assert "1 of the 4 features" in case.remarks[0]


def test_a_model_without_an_axis_of_rows_is_refused(tmp_path: Path) -> None:
    whole = Signature(VECTOR.inputs, VECTOR.outputs, rows=False)
    with refused("unsupported_graph", "axis of rows"):
        read_data(npz(tmp_path), whole)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=80, max_size=300), st.sampled_from([0.3, 0.5, 0.7]))
def test_a_split_is_of_all_rows_each_once_and_of_each_class_alike(kinds: list[int], share: float) -> None:
    data = Data({"x": np.arange(len(kinds))}, np.array(kinds))
    try:
        one, two = split(data, share)
    except Setup:
        return
    assert sorted([*one.rows["x"].tolist(), *two.rows["x"].tolist()]) == list(range(len(kinds)))
    assert one.labels is not None
    for kind in set(kinds):
        assert abs((one.labels == kind).sum() - share * kinds.count(kind)) <= 1.5
    assert all(kinds[row] == label for row, label in zip(one.rows["x"].tolist(), one.labels.tolist(), strict=True))


@pytest.mark.parametrize(
    ("given_labels", "dtype"),
    [(["1", "2.0"], np.int64), (["1.5", "2"], np.float64), ([b"1", b"x"], np.object_), ([1.0, 2.0], np.int64)],
)
def test_labels_are_whole_numbers_if_they_all_can_be_else_numbers_else_texts(given_labels: list[object], dtype: type) -> None:
    assert tidy_labels(np.array(given_labels, dtype=object if isinstance(given_labels[0], bytes) else None)).dtype == dtype


@pytest.mark.parametrize("map", [{"x": "pixels"}, {}])
def test_an_array_of_another_name_is_taken_by_map_or_as_the_only_one(map: dict[str, str], tmp_path: Path) -> None:
    made = rows(70)
    arrays: Arrays = {"pixels": made, "label": labels(made), **({"times": np.arange(70)} if map else {})}
    np.savez(tmp_path / "rows.npz", **arrays)  # type: ignore[arg-type]
    data = read_data(tmp_path / "rows.npz", VECTOR, map=map)
    assert np.array_equal(data.rows["x"], made)
    assert data.labels is not None


def test_of_two_arrays_of_other_names_neither_is_guessed(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", one=rows(70), two=rows(70))
    with refused("missing_column", "no array 'x'"):
        read_data(tmp_path / "rows.npz", VECTOR)
