import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import StringStringEntryProto, TensorProto, TrainingInfoProto, helper, numpy_helper

from foretell.backends import load_backend
from foretell.errors import Setup
from foretell.formats.onnx import check_external_data, describe_onnx, external_locations
from tests.backends.graphs import build, linear, save, tensor

WEIGHTS = np.arange(4, dtype=np.float32)


def external(location: str, name: str = "w") -> Any:
    """Four floats that are kept in a file."""
    outside = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    outside.external_data.append(StringStringEntryProto(key="location", value=location))
    return outside


def model(weight: Any) -> Any:
    return build([helper.make_node("Add", ["x", "w"], ["y"])], [tensor("x", ["n", 4])], [tensor("y", ["n", 4])], [weight])


def as_initializer(outside: Any) -> Any:
    return model(outside)


def as_sparse_initializer(outside: Any) -> Any:
    built = model(numpy_helper.from_array(WEIGHTS, "w"))
    indices = numpy_helper.from_array(np.arange(4, dtype=np.int64), "i")
    built.graph.sparse_initializer.append(helper.make_sparse_tensor(outside, indices, [4]))
    return built


def as_sparse_indices(outside: Any) -> Any:
    built = model(numpy_helper.from_array(WEIGHTS, "w"))
    values = numpy_helper.from_array(WEIGHTS, "v")
    built.graph.sparse_initializer.append(helper.make_sparse_tensor(values, outside, [4]))
    return built


def _with_constant(**attribute: Any) -> Any:
    nodes = [helper.make_node("Constant", [], ["w"], **attribute), helper.make_node("Add", ["x", "w"], ["y"])]
    return build(nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4])])


def as_attribute(outside: Any) -> Any:
    return _with_constant(value=outside)


def as_attribute_of_several(outside: Any) -> Any:
    return _with_constant(values=[outside])


def as_sparse_attribute(outside: Any) -> Any:
    indices = numpy_helper.from_array(np.arange(4, dtype=np.int64), "i")
    return _with_constant(sparse_value=helper.make_sparse_tensor(outside, indices, [4]))


def in_a_subgraph(outside: Any) -> Any:
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["b"])], "branch", [], [tensor("b", [4])], [outside])
    built = model(numpy_helper.from_array(WEIGHTS, "w"))
    built.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch))
    return built


def in_a_subgraph_of_a_subgraph(outside: Any) -> Any:
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=outside)], "inner", [], [tensor("c", [4])])
    node = helper.make_node("If", ["yes"], ["b"], then_branch=inner, else_branch=inner)
    middle = helper.make_graph([node], "middle", [], [tensor("b", [4])])
    built = model(numpy_helper.from_array(WEIGHTS, "w"))
    built.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=middle, else_branch=middle))
    return built


def in_a_function(outside: Any) -> Any:
    built = model(numpy_helper.from_array(WEIGHTS, "w"))
    constant = helper.make_node("Constant", [], ["c"], value=outside)
    built.functions.append(helper.make_function("com.example", "F", [], ["c"], [constant], [helper.make_opsetid("", 17)]))
    return built


def in_training_info(outside: Any) -> Any:
    built = model(numpy_helper.from_array(WEIGHTS, "w"))
    graph = helper.make_graph([], "training", [], [], [outside])
    built.training_info.append(TrainingInfoProto(algorithm=graph))
    return built


PLACES = [
    as_initializer,
    as_sparse_initializer,
    as_sparse_indices,
    as_attribute,
    as_attribute_of_several,
    as_sparse_attribute,
    in_a_subgraph,
    in_a_subgraph_of_a_subgraph,
    in_a_function,
    in_training_info,
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, with weights in and outside of it."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in (folder / "w.bin", folder / "sub" / "w.bin", tmp_path / "secret.bin"):
        place.write_bytes(WEIGHTS.tobytes())
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_found_wherever_it_stands(place: Callable[[Any], Any]) -> None:
    assert set(external_locations(place(external("there.bin")).SerializeToString())) == {"there.bin"}


@pytest.mark.parametrize("place", PLACES)
def test_a_path_out_of_the_folder_is_refused_wherever_it_stands(place: Callable[[Any], Any], folder: Path) -> None:
    source = save(place(external("../secret.bin")), folder / "model.onnx")
    with pytest.raises(Setup, match=r"names the data file '\.\./secret\.bin'") as refusal:
        load_backend(source)
    assert refusal.value.code == "outside_folder"
    assert source in refusal.value.message


@pytest.mark.parametrize("location", ["w.bin", "sub/w.bin", "./w.bin"])
def test_data_in_the_folder_is_read(location: str, folder: Path) -> None:
    backend = load_backend(save(model(external(location)), folder / "model.onnx"))
    assert backend.forward({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    "location",
    [
        "sub/../w.bin",
        "..",
        "/etc/hostname",
        "",
        ".",
        "sub",
        "a\\..\\w.bin",
        "w.bin\0",
        "../model/w.bin",
        "link.bin",
        "hard.bin",
        "out/secret.bin",
    ],
)
def test_anything_but_a_plain_file_in_the_folder_is_refused(location: str, folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder / "w.bin")
    (folder / "out").symlink_to(folder.parent)
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    with pytest.raises(Setup, match="put a real copy there") as refusal:
        load_backend(save(model(external(location)), folder / "model.onnx"))
    assert refusal.value.code == "outside_folder"


@pytest.mark.parametrize("location", ["gone.bin", "*/_ORT_MEM_ADDR_/*"])
def test_data_that_is_missing_is_named(location: str, folder: Path) -> None:
    with pytest.raises(Setup, match=r"needs the data file .* which does not exist") as refusal:
        load_backend(save(model(external(location)), folder / "model.onnx"))
    assert refusal.value.code == "missing_file"


def test_a_model_in_memory_has_no_external_data() -> None:
    with pytest.raises(Setup, match="load the model by its path"):
        load_backend(model(external("w.bin")).SerializeToString())


def test_the_value_may_stand_before_its_key_and_twice() -> None:
    """Protobuf fields have no order, and the last of a repeated one counts: here any of them does."""
    entry = b"\x12\x01a" + b"\x0a\x08location" + b"\x12\x04../b"
    assert set(external_locations(_model_with_entry(entry))) == {"a", "../b"}


def _model_with_entry(entry: bytes) -> bytes:
    """A model whose one initializer has ``entry`` for its external data."""
    inside = _message(13, entry)
    return _message(7, _message(5, inside))


def _message(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def test_a_very_deep_model_is_read_without_recursion() -> None:
    deep = b"\x6a\x0f\x0a\x08location\x12\x03a/b"
    deep = b"\x2a" + bytes([len(deep)]) + deep
    for _ in range(2000):  # Graph.node.attribute.g
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            deep = tag + _length(len(deep)) + deep
    assert set(external_locations(b"\x3a" + _length(len(deep)) + deep)) == {"a/b"}


def _length(size: int) -> bytes:
    out = bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(noise: bytes) -> None:
    with contextlib.suppress(ValueError):
        list(external_locations(noise + b"location"))


@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_a_damaged_model_is_read_or_refused(at: int, noise: bytes) -> None:
    whole = in_a_subgraph(external("w.bin")).SerializeToString()
    with contextlib.suppress(ValueError):
        list(external_locations(whole[:at] + noise + whole[at + len(noise) :]))


def test_a_file_describes_itself(tmp_path: Path) -> None:
    built = model(numpy_helper.from_array(WEIGHTS, "w"))
    built.producer_name = "tests"
    facts = describe_onnx(Path(save(built, tmp_path / "m.onnx")))
    assert facts == {
        "ir_version": "9",
        "producer": "tests",
        "opset": "17 (ai.onnx.ml 3)",
        "size": f"{len(built.SerializeToString()):,} bytes",
        "parameters": "4",
        "operators": "Add",
    }


def test_a_model_with_its_data_inside_passes(tmp_path: Path) -> None:
    check_external_data(Path(save(model(numpy_helper.from_array(WEIGHTS, "w")), tmp_path / "m.onnx")))


def test_an_opset_that_is_repeated_or_spelled_out_is_told_once(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    for domain, version in (("ai.onnx.ml", 1), ("", 22), ("ai.onnx", 22), ("", 22)):
        model.opset_import.append(helper.make_opsetid(domain, version))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert describe_onnx(tmp_path / "model.onnx")["opset"] == "22 (ai.onnx.ml 1)"


def test_parameters_and_operators_are_told(tmp_path: Path) -> None:
    facts = describe_onnx(linear(features=4, classes=3).SerializeToString())
    assert (facts["parameters"], facts["operators"]) == ("12", "MatMul, Softmax")
    assert "elsewhere" not in facts


def test_parameters_are_not_told_where_an_operator_keeps_them_to_itself() -> None:
    forest = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml")
    graph = helper.make_graph([forest], "g", [], [], [numpy_helper.from_array(WEIGHTS, "w")])
    facts = describe_onnx(helper.make_model(graph).SerializeToString())
    assert facts["operators"] == "TreeEnsembleRegressor"
    assert "parameters" not in facts


def test_operators_outside_the_standard_are_named() -> None:
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0])
    facts = describe_onnx(build([node], [tensor("x", ["n", 3])], [tensor("y", ["n", 3])]).SerializeToString())
    assert facts["elsewhere"] == "other runtimes may lack ai.onnx.ml.Scaler"
