import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from foretell.backends import ModelOptions, describe, load_backend
from foretell.errors import Invalid, Setup, Unavailable
from foretell.memory import resident_bytes, trim
from foretell.pipeline import Pipeline
from foretell.tensors import Array, Arrays, Datatype
from tests.backends.graphs import (
    BY_DATATYPE,
    build,
    convolution,
    dynamically_quantized,
    identity,
    linear,
    save,
    tensor,
)

SAMPLES: dict[str, list[Any]] = {
    "BOOL": [True, False, True],
    "UINT64": [0, 1, 2**64 - 1],
    "INT64": [-(2**63), 0, 2**63 - 1],
    "FP16": [0.5, -65504.0, np.inf],
    "BF16": [0.5, -3e38, np.inf],
    "FP32": [0.1, -3e38, np.nan],
    "FP64": [0.1, -1e308, np.nan],
    "BYTES": [b"", "é\U0001f600".encode(), b"a\0b"],
}


def forward(model: Any, inputs: Arrays, options: ModelOptions = ModelOptions()) -> Arrays:  # noqa: B008 - frozen
    return load_backend(model.SerializeToString(), options).forward(inputs)


def floats(array: Array) -> NDArray[np.float64]:
    return array.astype(np.float64)


@pytest.mark.parametrize("name", BY_DATATYPE)
def test_every_datatype_goes_through_unchanged(name: str) -> None:
    datatype = Datatype(name)
    backend = load_backend(identity(name).SerializeToString())
    assert [spec.dtype for spec in backend.signature.inputs + backend.signature.outputs] == [datatype, datatype]
    given = np.array([SAMPLES.get(name, [0, 1, 2])] * 2, datatype.numpy)
    answer = backend.forward({"x": given})["y"]
    assert answer.dtype == datatype.numpy
    assert answer.tolist() == given.tolist() or answer.tobytes() == given.tobytes()


def test_bf16_answers_can_be_written_to() -> None:
    answer = forward(identity("BF16"), {"x": np.ones((2, 3), Datatype.BF16.numpy)})["y"]
    answer[0, 0] = 2
    assert answer[0, 0] == 2


def test_a_text_that_is_not_utf8_is_the_callers_own_error() -> None:
    pipeline = Pipeline(load_backend(identity("BYTES", ["n"]).SerializeToString()))
    with pytest.raises(Invalid, match=r"input 'x': the text at index \[1\] is not valid UTF-8") as refusal:
        pipeline.prepare({"x": np.array([b"good", b"\xff"], np.object_)})
    assert refusal.value.code == "bad_text"


def test_str_elements_are_taken_as_texts() -> None:
    answer = forward(identity("BYTES", ["n"]), {"x": np.array(["é", b"b"], np.object_)})
    assert answer["y"].tolist() == ["é".encode(), b"b"]


def test_several_inputs_and_outputs_keep_the_graphs_order() -> None:
    nodes = [helper.make_node("Add", ["b", "a"], ["sum"]), helper.make_node("Sub", ["b", "a"], ["difference"])]
    inputs = [tensor("b", ["n", 2]), tensor("a", ["n", 2])]
    backend = load_backend(build(nodes, inputs, [tensor("sum", ["n", 2]), tensor("difference", ["n", 2])]).SerializeToString())
    assert [spec.name for spec in backend.signature.inputs] == ["b", "a"]
    answers = backend.forward({"a": np.ones((1, 2), np.float32), "b": np.full((1, 2), 3, np.float32)})
    assert {name: array.tolist() for name, array in answers.items()} == {"sum": [[4, 4]], "difference": [[2, 2]]}


def test_a_symbolic_first_axis_is_the_row_axis() -> None:
    signature = load_backend(identity(dims=["batch", "time", 3]).SerializeToString()).signature
    assert signature.rows
    assert signature.inputs[0].shape == (None, 3)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8, 9])
def test_a_fixed_batch_axis_takes_any_number_of_rows(rows: int) -> None:
    given = {"x": np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)}
    fixed = load_backend(linear(4).SerializeToString())
    assert fixed.signature.rows
    assert fixed.signature.inputs[0].shape == (4,)
    np.testing.assert_allclose(floats(fixed.forward(given)["y"]), floats(forward(linear(), given)["y"]), rtol=1e-6)


def test_a_fixed_input_with_an_open_output_has_rows() -> None:
    node = helper.make_node("Compress", ["x", "keep"], ["y"], axis=1)
    model = build(
        [node], [tensor("x", [2, 3])], [tensor("y", None)], [numpy_helper.from_array(np.array([True, False, True]), "keep")]
    )
    backend = load_backend(model.SerializeToString())
    assert backend.signature.rows
    assert backend.forward({"x": np.arange(15, dtype=np.float32).reshape(5, 3)})["y"].shape == (5, 2)


@pytest.mark.parametrize("dims", [[], [2, 3]])
def test_a_model_without_a_batch_axis_keeps_whole_shapes(dims: list[int]) -> None:
    options = ModelOptions(rows=None if not dims else False)
    backend = load_backend(identity(dims=dims).SerializeToString(), options)
    assert not backend.signature.rows
    assert backend.signature.inputs[0].shape == tuple(dims)
    given = np.ones(dims, np.float32)
    np.testing.assert_array_equal(backend.forward(backend.signature.conform({"x": given}))["y"], given)


def test_an_output_of_another_length_means_that_there_is_no_batch_axis() -> None:
    model = build([helper.make_node("NonZero", ["x"], ["y"])], [tensor("x", ["n"])], [tensor("y", [1, "m"], "INT64")])
    assert not load_backend(model.SerializeToString()).signature.rows


def test_rows_can_be_said_where_the_graph_hides_them() -> None:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    model = build([node], [tensor("x", ["n", 2])], [tensor("y", [1, 2])])
    assert not load_backend(model.SerializeToString()).signature.rows
    backend = load_backend(model.SerializeToString(), ModelOptions(rows=True))
    assert backend.signature.outputs[0].shape == (2,)


def test_rows_cannot_be_said_of_a_scalar() -> None:
    with pytest.raises(Setup, match="said to take rows, but 'x' has no axis at all: remove `rows = true`"):
        load_backend(identity(dims=[]).SerializeToString(), ModelOptions(rows=True))


def test_an_output_without_a_shape_is_measured() -> None:
    keep = numpy_helper.from_array(np.array([2, -1], np.int64), "shape")
    nodes = [
        helper.make_node("Identity", ["shape"], ["s"]),
        helper.make_node("Loop", ["one", "", "x"], ["y"], body=_loop_body()),
    ]
    one = numpy_helper.from_array(np.array(1, np.int64), "one")
    backend = load_backend(build(nodes, [tensor("x", ["n", 2])], [tensor("y", None)], [keep, one]).SerializeToString())
    assert len(backend.signature.outputs[0].shape) == 1
    assert backend.signature.rows


def _loop_body() -> Any:
    nodes = [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["state", "state"], ["next"])]
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    go_on = helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    return helper.make_graph(nodes, "body", [turn, go, tensor("state", None)], [go_on, tensor("next", None)])


def test_a_zip_map_is_refused_with_its_cure() -> None:
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    model = build([node], [tensor("x", ["n", 3])], [helper.make_value_info("y", maps)])
    with pytest.raises(Setup, match=r"output 'y' is seq\(map.*'zipmap': False") as refusal:
        load_backend(model.SerializeToString())
    assert refusal.value.code == "broken_model"


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08", linear().SerializeToString()[:60], b"\0" * 5000])
def test_a_broken_file_is_named_quickly_with_the_cure(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "bad.onnx"
    file.write_bytes(content)
    start = time.monotonic()
    with pytest.raises(Setup, match="check that the file is complete") as refusal:
        load_backend(file)
    assert time.monotonic() - start < 5
    assert refusal.value.code == "broken_model"
    assert str(file) in refusal.value.message


def test_an_unknown_operator_is_refused() -> None:
    node = helper.make_node("Mystery", ["x"], ["y"], domain="com.example")
    model = build([node], [tensor("x", ["n", 2])], [tensor("y", ["n", 2])])
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(Setup, match="with standard operators"):
        load_backend(model.SerializeToString())


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    facts = describe(load_backend(save(linear(), tmp_path / "m.onnx")))
    assert facts["format"] == "ONNX"
    assert facts["opset"] == "17 (ai.onnx.ml 3)"
    assert facts["provider"] == "CPUExecutionProvider"
    assert facts["size"].endswith(" bytes")


def test_a_closed_model_says_so() -> None:
    backend = load_backend(linear().SerializeToString())
    backend.close()
    with pytest.raises(Unavailable, match="the model is closed"):
        backend.forward({"x": np.zeros((1, 4), np.float32)})


def test_threads_may_be_all_of_them() -> None:
    given = {"x": np.ones((2, 4), np.float32)}
    answer = forward(linear(), given, ModelOptions(threads=0))["y"]
    np.testing.assert_allclose(floats(answer), floats(forward(linear(), given)["y"]), rtol=1e-6)


def test_a_provider_that_is_asked_for_and_there_is_used_and_named() -> None:
    backend = load_backend(linear().SerializeToString(), ModelOptions(providers=("CPUExecutionProvider",)))
    assert describe(backend)["provider"] == "CPUExecutionProvider"


@pytest.mark.parametrize("also", [(), ("CPUExecutionProvider",)])
def test_a_provider_that_is_not_there_is_a_failed_load_with_no_silent_fallback(also: tuple[str, ...]) -> None:
    options = ModelOptions(providers=("NoSuchExecutionProvider", *also))
    with pytest.raises(
        Setup, match=r"is to run on NoSuchExecutionProvider, but the installed onnxruntime has .*CPU"
    ) as refusal:
        load_backend(linear().SerializeToString(), options)
    assert refusal.value.code == "wrong_provider"


def test_dynamic_quantization_is_told() -> None:
    assert describe(load_backend(dynamically_quantized().SerializeToString()))["quantization"].startswith("dynamic")
    assert "quantization" not in describe(load_backend(linear().SerializeToString()))


def test_memory_does_not_grow_with_every_shape_that_comes() -> None:
    numbers = np.random.default_rng(0)
    backend = load_backend(convolution().SerializeToString())

    def forward_many(count: int) -> int:
        for _ in range(count):
            rows, height, width = (int(numbers.integers(low, high)) for low, high in ((1, 5), (8, 200), (8, 200)))
            backend.forward({"x": np.ones((rows, 3, height, width), np.float32)})
        trim()
        return resident_bytes()

    warm = forward_many(150)
    assert forward_many(150) - warm < 16 * 2**20


def test_the_runtime_keeps_and_sends_nothing_of_its_own(tmp_path: Path) -> None:
    """Its telemetry would leave a device's id and a database of events at home."""
    save(linear(), tmp_path / "model.onnx")
    environ = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "foretell", "inspect", str(tmp_path / "model.onnx")]
    subprocess.run(command, env={**environ, "HOME": str(home)}, check=True, capture_output=True, timeout=60)
    assert [file for file in home.rglob("*") if file.is_file()] == []
