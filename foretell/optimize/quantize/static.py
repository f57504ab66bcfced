"""int8 weights and activations, whose ranges are known from representative rows: QuantizeLinear and DequantizeLinear pairs."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxruntime import quantization

from foretell.errors import Setup
from foretell.evidence.case import Case
from foretell.evidence.progress import Progress
from foretell.optimize.quantize.graph import Graph, changing, quiet
from foretell.optimize.quantize.method import Place
from foretell.tensors import Arrays

if TYPE_CHECKING:
    from foretell.optimize.quantize import Quantizing

WEIGHED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that are a layer."""
PASSING = ("Relu", "Clip", "MaxPool", "AveragePool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Pad")
"""Operators that hand 8-bit numbers on, between layers."""
LEAST_ROWS = 32
CHUNK_ROWS = 8
"""Rows at a time: all tensors of a graph are held for them."""
MATRICES = {"MatMul": 1, "Gemm": 1}
CALIBRATIONS = {
    "minmax": quantization.CalibrationMethod.MinMax,
    "entropy": quantization.CalibrationMethod.Entropy,
    "percentile": quantization.CalibrationMethod.Percentile,
}


class Static:
    """A ``Method``. ``ranges``: the smallest and largest value of every tensor, as the library keeps them."""

    def __init__(self, graph: Graph, ranges: Any, options: "Quantizing") -> None:
        self.graph = graph
        self.ranges = ranges
        self.options = options
        self.layers = layers_of(graph)
        self.remarks: Sequence[str] = ()

    def write(self, taken: Collection[str], target: Path) -> None:
        with changing(self.graph.source), quiet():
            quantizer = quantization.QDQQuantizer(
                self.graph.copy(),
                per_channel=self.options.per_channel,
                reduce_range=self.options.seven_bits,
                weight_qType=quantization.QuantType.QInt8,
                activation_qType=quantization.QuantType.QUInt8,
                tensors_range=self.ranges,
                nodes_to_quantize=[],
                nodes_to_exclude=self._left(taken),
                op_types_to_quantize=[*WEIGHED, *PASSING],
                extra_options={"QDQOpTypePerChannelSupportToAxis": MATRICES if self.options.per_channel else {}},
            )
            quantizer.quantize_model()
            quantizer.model.save_model_to_file(str(target), False)

    def _left(self, taken: Collection[str]) -> list[str]:
        """Layers that stay as they are; and what only hands numbers on, where no layer beside it is changed."""
        left = {layer.name for layer in self.layers if layer.name not in taken}
        tensors = {name for node in self.graph.model.graph.node if node.name in taken for name in (*node.input, *node.output)}
        grown = True
        passing = [node for node in self.graph.model.graph.node if node.op_type in PASSING]
        near: set[str] = set()
        while grown:
            found = {node.name for node in passing if tensors & {*node.input, *node.output}} - near
            tensors |= {name for node in passing if node.name in found for name in (*node.input, *node.output)}
            near |= found
            grown = bool(found)
        return [*left, *(node.name for node in passing if node.name not in near)]


def static(graph: Graph, case: Case, options: "Quantizing", progress: Progress) -> Static:
    """Runs the representative rows through the graph. Raises Setup ``too_few_rows`` or ``unsupported_graph``."""
    if min(options.rows, len(case.fit)) < LEAST_ROWS:
        raise Setup(
            "too_few_rows", f"{LEAST_ROWS} rows are needed to calibrate on, there are {min(options.rows, len(case.fit))}"
        )
    if not layers_of(graph):
        return Static(graph, None, options)
    with changing(graph.source), quiet():
        calibrator = quantization.create_calibrator(
            str(graph.path),
            None,
            augmented_model_path=str(graph.path.with_name("augmented.onnx")),
            calibrate_method=CALIBRATIONS[options.calibration],
        )
        chunks = list(_chunks(graph, case.fit.rows, options.rows))
        for number, chunk in enumerate(chunks):
            progress.say(f"calibrating on {options.rows} rows", number / len(chunks))
            calibrator.collect_data(_Once(chunk))
        return Static(graph, calibrator.compute_data(), options)


def layers_of(graph: Graph) -> tuple[Place, ...]:
    """Also products of two activations, as in attention."""
    nodes = (node for node in graph.model.graph.node if node.op_type in WEIGHED)
    return tuple(Place(node.name, node.op_type) for node in nodes)


class _Once(quantization.CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """Hands the calibrator one chunk at a time."""

    def __init__(self, chunk: Arrays) -> None:
        self.chunks: Iterator[Arrays] = iter([chunk])

    def get_next(self) -> Arrays | None:
        return next(self.chunks, None)


def _chunks(graph: Graph, rows: Arrays, most: int) -> Iterator[Arrays]:
    """Of as many rows as the graph insists on, or a few."""
    dims = graph.model.graph.input[0].type.tensor_type.shape.dim
    size = dims[0].dim_value if dims and dims[0].dim_value > 0 else CHUNK_ROWS
    count = min(most, len(next(iter(rows.values()))))
    for start in range(0, count - size + 1, size):
        yield {name: array[start : start + size] for name, array in rows.items()}
