"""The models that the benchmarks serve, made on the spot: tiny (30 features), mid (512-1024-1024-10)."""

import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZES = {"tiny": (30, 64, 32, 2), "mid": (512, 1024, 1024, 10)}


def write_model(name: str, folder: Path) -> Path:
    """A dense network with random weights: ``input`` FP32 [rows, n] -> ``output`` FP32 [rows, m], a softmax."""
    rng = np.random.default_rng(0)
    sizes = SIZES[name]
    nodes, weights, flow = [], [], "input"
    for layer, (wide, narrow) in enumerate(itertools.pairwise(sizes)):
        weight = (rng.standard_normal((wide, narrow)) / wide**0.5).astype(np.float32)
        weights += [
            numpy_helper.from_array(weight, f"w{layer}"),
            numpy_helper.from_array(np.zeros(narrow, np.float32), f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [flow, f"w{layer}", f"b{layer}"], [f"g{layer}"]))
        flow = f"g{layer}"
        if layer < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [flow], [f"r{layer}"]))
            flow = f"r{layer}"
    nodes.append(helper.make_node("Softmax", [flow], ["output"]))
    ends = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, ["rows", size])
        for end, size in (("input", sizes[0]), ("output", sizes[-1]))
    ]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path
