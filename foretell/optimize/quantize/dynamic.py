"""int8 weights, and activations whose range is looked at as they come: no representative rows are needed."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from onnxruntime import quantization

from foretell.evidence.case import Case
from foretell.evidence.progress import Progress
from foretell.optimize.quantize.graph import Graph, as_matmuls, changing, constants, quiet
from foretell.optimize.quantize.method import Place

if TYPE_CHECKING:
    from foretell.optimize.quantize import Quantizing

FAST, SMALL = ("MatMul", "LSTM", "Gather"), ("MatMul", "LSTM", "Gather", "Conv")
"""A convolution becomes smaller, and several times slower."""
SHARED = "rows of a batch would share the scale of an activation and so change each other's answers: it is served row by row"


class Dynamic:
    """A ``Method``."""

    remarks = (SHARED,)

    def __init__(self, graph: Graph, kinds: tuple[str, ...], per_channel: bool) -> None:
        self.graph = graph
        self.kinds = kinds
        self.per_channel = per_channel
        with changing(graph.source), quiet():
            self.model = as_matmuls(graph.copy())
        stored = {name for name, tensor in constants(self.model).items() if tensor.data_type == 1}
        nodes = (node for node in self.model.graph.node if node.op_type in kinds and stored & set(node.input))
        self.layers = tuple(Place(node.name, node.op_type) for node in nodes)

    def write(self, taken: Collection[str], target: Path) -> None:
        with changing(self.graph.source), quiet():
            model = type(self.model)()
            model.CopyFrom(self.model)
            quantization.quantize_dynamic(
                model,
                target,
                op_types_to_quantize=list(self.kinds),
                per_channel=self.per_channel,
                nodes_to_exclude=[layer.name for layer in self.layers if layer.name not in taken],
                weight_type=quantization.QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )


def dynamic(graph: Graph, case: Case, options: "Quantizing", progress: Progress) -> Dynamic:
    """Convolutions are left out unless size is what matters."""
    return Dynamic(graph, SMALL if case.wanted.aim == "size" else FAST, options.per_channel)
