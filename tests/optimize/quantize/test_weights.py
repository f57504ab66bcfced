"""Packed weights against what the runtime makes of them."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from foretell.optimize.quantize.layers import noise_of
from foretell.optimize.quantize.weights import BLOCK, Floats, Packed, pack, unpack

SIZES = st.integers(1, 70)


def matrix(seed: int, summed: int, columns: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(summed, columns)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), SIZES, SIZES, st.sampled_from([4, 8]))
def test_unpacking_gives_each_weight_back_to_half_a_step(seed: int, summed: int, columns: int, bits: int) -> None:
    weight = matrix(seed, summed, columns)
    packed = pack(weight, bits)
    step = np.repeat(packed.scales, BLOCK, axis=1)[:, :summed].T
    assert unpack(packed, bits, summed).shape == weight.shape
    assert (np.abs(unpack(packed, bits, summed) - weight) <= step * 1.01 + 1e-6).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), SIZES, SIZES, st.sampled_from([4, 8]))
def test_the_runtime_computes_with_the_weights_that_unpacking_gives(seed: int, summed: int, columns: int, bits: int) -> None:
    packed = pack(matrix(seed, summed, columns), bits)
    rows = np.eye(summed, dtype=np.float32)
    assert np.allclose(_run(packed, rows, bits, summed, columns), unpack(packed, bits, summed), atol=1e-5)


def _run(packed: Packed, rows: Floats, bits: int, summed: int, columns: int) -> Floats:
    stored = [
        numpy_helper.from_array(array, name) for name, array in (("b", packed.bytes), ("s", packed.scales), ("z", packed.zeros))
    ]
    sizes = {"K": summed, "N": columns, "bits": bits, "block_size": BLOCK, "accuracy_level": 1}
    node = helper.make_node("MatMulNBits", ["x", "b", "s", "z"], ["y"], domain="com.microsoft", **sizes)
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", summed), ("y", columns))
    ]
    graph = helper.make_graph([node], "graph", infos[:1], infos[1:], stored)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=9
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    found: Floats = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": rows})[0]
    return found


def test_a_column_of_zeros_stays_zero() -> None:
    weight = matrix(0, 40, 3)
    weight[:, 1] = 0
    assert np.array_equal(unpack(pack(weight, 4), 4, 40)[:, 1], np.zeros(40))


def test_noise_is_the_squared_difference_by_what_the_answers_vary() -> None:
    want = {"y": np.array([[1.0], [3.0]]), "label": np.array([0, 1])}
    assert noise_of(want, {"y": np.array([[1.0], [3.2]]), "label": np.array([0, 0])}) == pytest.approx(0.02)
    assert noise_of(want, want) == 0.0
