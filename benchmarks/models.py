"""The models that the benchmarks serve, made on the spot: each takes ``input`` FP32 [rows, ...] and gives ``output``.

tiny is 30-64-32-2 and mid 512-1024-1024-10, both dense; conv is a network of 8 convolutions on 3 x 64 x 64; image gives
back the 600 KB of 3 x 224 x 224 that it takes, so that what is measured is the carrying.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DENSE = {"tiny": (30, 64, 32, 2), "mid": (512, 1024, 1024, 10)}
CHANNELS = (32, 64, 128, 256)
CLASSES = 1000
SHAPES = {"tiny": (30,), "mid": (512,), "conv": (3, 64, 64), "image": (3, 224, 224)}


def write_model(name: str, folder: Path) -> Path:
    rng = np.random.default_rng(0)
    weights: list[Any] = []
    if name == "image":
        nodes, given = [helper.make_node("Identity", ["input"], ["output"])], SHAPES[name]
    elif name == "conv":
        nodes, given = [*_convolutions(weights, rng)], (CLASSES,)
    else:
        nodes, given = [*_layers(DENSE[name], weights, rng)], DENSE[name][-1:]
    ends = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, ["rows", *shape])
        for end, shape in (("input", SHAPES[name]), ("output", given))
    ]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def _layers(sizes: tuple[int, ...], weights: list[Any], rng: np.random.Generator) -> Iterable[Any]:
    flow = "input"
    for layer, (wide, narrow) in enumerate(itertools.pairwise(sizes)):
        weights += [_random(f"w{layer}", rng, wide, wide, narrow), _zeros(f"b{layer}", narrow)]
        yield helper.make_node("Gemm", [flow, f"w{layer}", f"b{layer}"], [f"g{layer}"])
        flow = f"g{layer}"
        if layer < len(sizes) - 2:
            yield helper.make_node("Relu", [flow], [f"r{layer}"])
            flow = f"r{layer}"
    yield helper.make_node("Softmax", [flow], ["output"])


def _convolutions(weights: list[Any], rng: np.random.Generator) -> Iterable[Any]:
    flow, came = "input", 3
    for stage, channels in enumerate(CHANNELS):
        for name in (f"{stage}a", f"{stage}b"):
            weights += [_random(f"w{name}", rng, came * 9, channels, came, 3, 3), _zeros(f"b{name}", channels)]
            yield helper.make_node("Conv", [flow, f"w{name}", f"b{name}"], [f"c{name}"], pads=[1, 1, 1, 1])
            yield helper.make_node("Relu", [f"c{name}"], [f"r{name}"])
            flow, came = f"r{name}", channels
        yield helper.make_node("MaxPool", [flow], [f"p{stage}"], kernel_shape=[2, 2], strides=[2, 2])
        flow = f"p{stage}"
    weights.append(_random("head", rng, came, came, CLASSES))
    yield helper.make_node("GlobalAveragePool", [flow], ["pooled"])
    yield helper.make_node("Flatten", ["pooled"], ["flat"])
    yield helper.make_node("MatMul", ["flat", "head"], ["logits"])
    yield helper.make_node("Softmax", ["logits"], ["output"])


def _random(name: str, rng: np.random.Generator, fan_in: int, *shape: int) -> Any:
    return numpy_helper.from_array((rng.standard_normal(shape) / fan_in**0.5).astype(np.float32), name)


def _zeros(name: str, size: int) -> Any:
    return numpy_helper.from_array(np.zeros(size, np.float32), name)
