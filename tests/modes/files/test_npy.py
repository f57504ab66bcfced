"""One array a file: read by map, never unpickled."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell.errors import Setup
from foretell.modes.files import npy
from foretell.modes.files.rows import Source
from foretell.tensors import Array, Datatype, Signature, TensorSpec
from tests.modes.files.models import Only, answers_of, sheet_of

X3 = TensorSpec("x", Datatype.FP32, (3,))


def read(tmp_path: Path, values: Any, *specs: TensorSpec) -> Array:
    np.save(tmp_path / "rows.npy", values)
    reader = npy.read(Source(tmp_path / "rows.npy", Signature(specs, ()), 4))
    return np.concatenate([reader.decode(chunk).arrays[specs[0].name] for chunk in reader.chunks()])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2"])
def test_an_array_is_read_in_chunks_whatever_its_order_and_dtype(tmp_path: Path, order: Any, dtype: str) -> None:
    values = np.asarray(np.arange(30).reshape(10, 3), dtype=dtype, order=order)
    np.testing.assert_array_equal(read(tmp_path, values, X3), values)


def test_strings_become_bytes(tmp_path: Path) -> None:
    assert read(tmp_path, np.array(["é", "b"]), TensorSpec("t", Datatype.BYTES)).tolist() == ["é".encode(), b"b"]


@pytest.mark.parametrize(
    "values", [np.zeros((2, 4)), np.zeros(()), np.array(["a"]), np.array([{}], dtype=object), np.zeros(3, "i,i")]
)
def test_an_array_of_another_shape_or_kind_is_refused(tmp_path: Path, values: Any) -> None:
    with pytest.raises(Setup, match=r"rows\.npy"):
        read(tmp_path, values, X3)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((10, 3)))
    (tmp_path / "rows.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-8])
    with pytest.raises(Setup, match=r"rows\.npy"):
        npy.read(Source(tmp_path / "rows.npy", Signature((X3,), ()), 4))


def test_two_inputs_do_not_fit_into_one_array(tmp_path: Path) -> None:
    with pytest.raises(Setup, match="the model takes 2"):
        read(tmp_path, np.zeros((2, 3)), X3, TensorSpec("y", Datatype.FP32))


def test_the_header_is_completed_at_the_end(tmp_path: Path) -> None:
    with (tmp_path / "answers.npy").open("wb") as stream:
        writer = npy.NpyWriter(sheet_of(Only(), stream))
        for _ in range(3):
            writer.write(writer.encode(answers_of(z=np.ones((5, 3), dtype=np.float32))))
        with pytest.raises(Setup, match=r"from \[3\] to \[2\]"):
            writer.write(writer.encode(answers_of(z=np.ones((5, 2), dtype=np.float32))))
        writer.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), np.ones((15, 3), dtype=np.float32))
