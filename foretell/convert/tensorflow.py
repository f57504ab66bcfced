"""Keras archives, SavedModels and LiteRT models to ONNX, by tf2onnx in a process of its own; and Keras to LiteRT.

https://onnxruntime.ai/docs/tutorials/tf-get-started.html
"""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from foretell.backends import ModelOptions

_SERVING = "serving_default"
_LONGEST_S = 3600.0

for _package in ("tensorflow", "tf2onnx"):  # before any work, and without the seconds that importing them takes
    if find_spec(_package) is None:
        raise ModuleNotFoundError(f"No module named {_package!r}", name=_package)


def keras_to_onnx(source: str, target: Path, options: ModelOptions) -> None:
    with TemporaryDirectory() as place:
        folder = _saved_model(source, Path(place), options)
        _tf2onnx(target, "--saved-model", str(folder), "--tag", "serve", "--signature_def", _signature(options))


def keras_to_litert(source: str, target: Path, options: ModelOptions) -> None:
    import tensorflow as tf

    with TemporaryDirectory() as place:
        folder = _saved_model(source, Path(place), options)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[_signature(options)])
        target.write_bytes(converter.convert())


def litert_to_onnx(source: str, target: Path, options: ModelOptions) -> None:
    """Names become those of the signature, and scaled integers floats: as the backend has them."""
    import onnx
    from ai_edge_litert.interpreter import Interpreter

    from foretell.backends.litert import find_ports

    _tf2onnx(target, "--tflite", source)
    model = onnx.load(str(target))
    inputs, outputs = find_ports(source, Interpreter(model_content=Path(source).read_bytes()), options)
    for graph in _graphs(model.graph):
        for node in graph.node:
            node.input[:] = [_held(name, [*inputs, *outputs]) for name in node.input]
            node.output[:] = [_held(name, [*inputs, *outputs]) for name in node.output]
    for port in inputs:
        model.graph.node.insert(0, _link(model.graph, port, "QuantizeLinear", port.node.name, f"{port.tensor}/held"))
        _declare(model.graph.input, port)
    for port in outputs:
        model.graph.node.append(_link(model.graph, port, "DequantizeLinear", f"{port.tensor}/held", port.node.name))
        _declare(model.graph.output, port)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def _signature(options: ModelOptions) -> str:
    return str(options.options.get("signature", _SERVING))


def _saved_model(source: str, place: Path, options: ModelOptions) -> Path:
    from foretell.backends.keras import export

    if Path(source).is_dir():
        return Path(source)
    export(source, place / "exported", options)
    return place / "exported"


def _tf2onnx(target: Path, *arguments: str) -> None:
    """Raises ValueError with the last line of what it says when it fails."""
    command = [sys.executable, "-P", "-m", "tf2onnx.convert", *arguments, "--output", str(target)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    if run.returncode or not target.exists():
        said = [line for line in run.stderr.splitlines() if line.strip()]
        raise ValueError(f"tf2onnx says: {said[-1] if said else f'exit code {run.returncode}'}")


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph, and those of its loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)


def _held(name: str, ports: list[Any]) -> str:
    return f"{name}/held" if any(port.tensor == name for port in ports) else name


def _link(graph: Any, port: Any, quantizes: str, before: str, after: str) -> Any:
    """The node between a tensor as it is held and as it is told."""
    from onnx import helper, numpy_helper

    if port.scale is None:
        return helper.make_node("Identity", [before], [after])
    import numpy as np

    names = [f"{port.tensor}/step", f"{port.tensor}/zero"]
    values = [np.float32(port.scale.step), port.scale.dtype.type(port.scale.zero)]
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for v, n in zip(values, names, strict=True))
    return helper.make_node(quantizes, [before, *names], [after])


def _declare(declared: Any, port: Any) -> None:
    from onnx import TensorProto

    value = next(each for each in declared if each.name == port.tensor)
    value.name = port.node.name
    if port.scale is not None:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
