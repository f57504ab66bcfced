"""What stands or falls together in a graph, and taking it out: exact where it did nothing."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.errors import Setup
from foretell.optimize.prune.channels import _usable
from foretell.optimize.prune.cut import cut, find_groups
from foretell.optimize.prune.graph import Graph, graph_of
from foretell.optimize.prune.ties import Group
from foretell.tensors import Array
from tests.optimize.quantize.models import Builder, transformer

onnx = pytest.importorskip("onnx")
DICE = np.random.default_rng(0)


def graph(builder: Builder, inputs: Sequence[int | str], outputs: Sequence[int | str]) -> Graph:
    return graph_of(onnx.load_model_from_string(builder.bytes({"x": inputs}, {"y": outputs})))


def named(groups: Sequence[Group], weight: str) -> int:
    """The group whose units are the outputs of a weight (its axis 0 of a convolution, 1 of a matrix)."""
    return next(i for i, group in enumerate(groups) if (weight, 0) in group.places or (weight, 1) in group.places)


def silenced(whole: Graph, group: Group, units: Array) -> Graph:
    """The graph with all weights of some units at zero."""
    changed: dict[str, Array] = {}
    for (name, axis), labels in group.places.items():
        if name in whole.weights and whole.weights[name].dtype.kind == "f":
            array = changed.get(name, whole.weights[name]).copy()
            np.moveaxis(array, axis, 0)[np.isin(labels, units)] = 0
            changed[name] = array
    return whole.with_weights(changed)


def dense_chain(sizes: Sequence[int], add: bool) -> Graph:
    """Layers of Gemm, or of MatMul and Add, with Relu between them."""
    builder, last = Builder(), "x"
    for i, (ours, theirs) in enumerate(itertools.pairwise(sizes)):
        out = "y" if i == len(sizes) - 2 else f"d{i}"
        weight, bias = (
            builder.weight(f"w{i}", DICE.normal(size=(ours, theirs))),
            builder.weight(f"b{i}", DICE.normal(size=theirs)),
        )
        if add:
            builder.add("MatMul", [last, weight], f"m{i}")
            builder.add("Add", [f"m{i}", bias], out)
        else:
            builder.add("Gemm", [last, weight, bias], out)
        last = out if out == "y" else builder.add("Relu", [out], f"r{i}")
    return graph(builder, ["n", sizes[0]], ["n", sizes[-1]])


def residual_net(channels: int, wide: int, outputs: int) -> Graph:
    """A stem, a block with BatchNormalization around which its input goes, a depthwise convolution, a pool, and a Gemm."""
    builder = Builder()

    def conv(source: str, name: str, ours: int, theirs: int, group: int = 1, size: int = 3) -> str:
        kernel = builder.weight(f"{name}.w", DICE.normal(size=(theirs, ours // group, size, size)) * 0.3)
        bias = builder.weight(f"{name}.b", DICE.normal(size=theirs) * 0.1)
        return builder.add("Conv", [source, kernel, bias], name, pads=[size // 2] * 4, group=group)

    stem = builder.add("Relu", [conv("x", "stem", 2, channels)], "stem_on")
    norm = [builder.weight(f"n{i}", np.abs(DICE.normal(size=wide)) + 0.5) for i in range(4)]
    norm[2] = builder.weight("mean", np.zeros(wide))
    inner = builder.add("BatchNormalization", [conv(stem, "inner", channels, wide), *norm], "normed")
    block = builder.add("Add", [stem, conv(builder.add("Relu", [inner], "inner_on"), "back", wide, channels)], "block")
    alone = builder.add("Relu", [conv(block, "alone", channels, channels, group=channels)], "alone_on")
    pool = builder.add("MaxPool", [alone], "pool", kernel_shape=[2, 2], strides=[2, 2])
    flat = builder.add("Flatten", [pool], "flat")
    builder.add("Gemm", [flat, builder.weight("last", DICE.normal(size=(channels * 4, outputs)))], "y")
    return graph(builder, ["n", 2, 4, 4], ["n", outputs])


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(2, 9), min_size=3, max_size=5), add=st.booleans(), data=st.data())
def test_cutting_silent_units_of_a_dense_chain_changes_nothing(sizes: list[int], add: bool, data: st.DataObject) -> None:
    whole = dense_chain(sizes, add)
    groups, _ = find_groups(whole)
    assert len(groups) == len(sizes) - 2
    at = data.draw(st.integers(0, len(groups) - 1))
    kept = np.array(sorted(data.draw(st.sets(st.integers(0, groups[at].units - 1), min_size=1))))
    quiet = silenced(whole, groups[at], np.setdiff1d(np.arange(groups[at].units), kept))
    smaller, left = cut(quiet, groups, at, kept)
    rows = {"x": DICE.normal(size=(7, sizes[0])).astype(np.float32)}
    assert np.allclose(smaller.answer(rows)["y"], quiet.answer(rows)["y"], rtol=1e-4, atol=1e-5)
    assert left[at].units == len(kept)


@settings(max_examples=12, deadline=None)
@given(channels=st.integers(2, 6), wide=st.integers(2, 6), data=st.data())
def test_cutting_silent_filters_changes_nothing_however_layers_are_tied(channels: int, wide: int, data: st.DataObject) -> None:
    whole = residual_net(channels, wide, 3)
    groups, _ = find_groups(whole)
    assert sorted(group.units for group in groups) == sorted([channels, wide])
    quiet, smaller = whole, whole
    for at in range(len(groups)):
        kept = np.array(sorted(data.draw(st.sets(st.integers(0, groups[at].units - 1), min_size=1))))
        gone = np.setdiff1d(np.arange(groups[at].units), kept)
        quiet = silenced(quiet, find_groups(whole)[0][at], gone)
        smaller, groups = cut(silenced(smaller, groups[at], gone), groups, at, kept)
    rows = {"x": DICE.normal(size=(5, 2, 4, 4)).astype(np.float32)}
    assert np.allclose(smaller.answer(rows)["y"], quiet.answer(rows)["y"], rtol=1e-4, atol=1e-4)
    assert smaller.parameters() <= whole.parameters()


def test_the_filters_around_a_residual_sum_are_one_group() -> None:
    groups, _ = find_groups(residual_net(4, 6, 3))
    tied = groups[named(groups, "stem.w")]
    assert {("stem.w", 0), ("back.w", 0), ("alone.w", 0), ("inner.w", 1), ("last", 0)} <= set(tied.places)
    assert tied.places["last", 0].tolist() == np.repeat(np.arange(4), 4).tolist()


def test_a_depthwise_convolution_is_told_how_many_groups_are_left() -> None:
    whole = residual_net(4, 6, 3)
    groups, _ = find_groups(whole)
    smaller, _ = cut(whole, groups, named(groups, "stem.w"), np.array([0, 3]))
    node = next(node for node in smaller.nodes if node.output[0] == "alone")
    assert next(each.i for each in node.attribute if each.name == "group") == 2


def test_a_silent_head_of_attention_is_taken_out_whole(tmp_path: Path) -> None:
    model, data = transformer(tmp_path)
    whole = graph_of(onnx.load(str(model)))
    groups, _ = find_groups(whole)
    at = named(groups, "query_w")
    assert groups[at].units == 2
    quiet = silenced(whole, groups[at], np.array([1]))
    smaller, _ = cut(quiet, groups, at, np.array([0]))
    with np.load(data) as file:
        rows = {"x": file["x"][:20]}
    assert np.allclose(smaller.answer(rows)["y"], quiet.answer(rows)["y"], atol=1e-5)
    assert smaller.weights["query_w"].shape == (64, 32)
    assert smaller.weights["attended_w"].shape == (32, 64)


def test_what_joins_two_layers_keeps_their_channels_apart() -> None:
    builder = Builder()
    for name in ("a", "b"):
        builder.add("Gemm", ["x", builder.weight(f"{name}.w", DICE.normal(size=(5, 4)))], name)
    builder.add("Concat", ["a", "b"], "both", axis=1)
    builder.add("Gemm", ["both", builder.weight("last", DICE.normal(size=(8, 2)))], "y")
    whole = graph(builder, ["n", 5], ["n", 2])
    groups, _ = find_groups(whole)
    assert [group.units for group in groups] == [4, 4]
    smaller, groups = cut(whole, groups, 1, np.array([1, 2]))
    smaller, groups = cut(smaller, groups, 0, np.array([0]))
    assert smaller.weights["last"].tolist() == whole.weights["last"][[0, 5, 6]].tolist()
    assert smaller.answer({"x": np.ones((3, 5), np.float32)})["y"].shape == (3, 2)


@pytest.mark.parametrize(
    ("operator", "attributes"), [("LayerNormalization", {"axis": -1}), ("Softmax", {"axis": -1}), ("CumSum", {})]
)
def test_the_operator_that_stops_every_cut_is_named(operator: str, attributes: dict[str, int]) -> None:
    builder = Builder()
    builder.add("MatMul", ["x", builder.weight("first", DICE.normal(size=(5, 4)))], "a")
    more = [builder.weight("more", np.ones(4))] if operator == "LayerNormalization" else []
    more = [builder.weight("axis", 1, np.int64)] if operator == "CumSum" else more
    builder.add(operator, ["a", *more], "b", **attributes)
    builder.add("MatMul", ["b", builder.weight("last", DICE.normal(size=(4, 2)))], "y")
    with pytest.raises(Setup, match=f"operator {operator} needs it whole") as refusal:
        _usable(graph(builder, ["n", 5], ["n", 2]))
    assert refusal.value.code == "unsupported_graph"


def test_a_model_of_trees_is_refused_by_its_operators() -> None:
    node = onnx.helper.make_node(
        "LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml", coefficients=[1.0, 2.0], intercepts=[0.0], targets=1
    )
    values = [onnx.helper.make_tensor_value_info(name, 1, ["n", size]) for name, size in (("x", 2), ("y", 1))]
    made = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 1)]
    with pytest.raises(Setup, match="its operators are LinearRegressor"):
        _usable(graph_of(onnx.helper.make_model(made, opset_imports=opsets, ir_version=9)))


def test_a_sparse_file_is_read_as_the_same_weights(tmp_path: Path) -> None:
    whole = dense_chain([16, 32, 2], add=False)
    mostly_zero = np.where(DICE.random((16, 32)) < 0.1, whole.weights["w0"], 0).astype(np.float32)
    sparse = whole.with_weights({"w0": mostly_zero})
    sparse.save(tmp_path / "sparse.onnx", sparse=True)
    sparse.save(tmp_path / "dense.onnx")
    assert (tmp_path / "sparse.onnx").stat().st_size < (tmp_path / "dense.onnx").stat().st_size
    again = graph_of(onnx.load(str(tmp_path / "sparse.onnx")))
    assert again.weights["w0"].tolist() == mostly_zero.tolist()
