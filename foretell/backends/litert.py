"""LiteRT (TensorFlow Lite) models, also quantized ones: floats outside, integers inside.

https://ai.google.dev/edge/litert
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from foretell.axes import ClosedRunner, Node, Runner, by_rows, is_by_rows, specs, zeros
from foretell.backends import Backend, ModelOptions, reading_model
from foretell.cpus import usable_cpus
from foretell.errors import Setup
from foretell.rehearsal import rehearse
from foretell.tensors import Array, Arrays, Datatype, Signature

IDENTIFIER = b"TFL3"
OPTIONS = ("integers", "signature")
_CURE = "check that the file is complete, or convert the model to LiteRT again with built-in operators"
_SERVING = "serving_default"


@dataclass(frozen=True)
class Scale:
    """How an integer tensor holds numbers: (integer - zero) * step."""

    step: float
    zero: int
    dtype: np.dtype[Any]

    def to_integers(self, array: Array) -> Array:
        """The nearest integers; what lies beyond the range becomes its end, and NaN becomes 0."""
        info = np.iinfo(self.dtype)
        scaled = np.rint(array.astype(np.float32, copy=False) / np.float32(self.step)) + np.float32(self.zero)
        bounded = np.clip(np.where(np.isnan(scaled), np.float32(self.zero), scaled), info.min, info.max)
        integers: Array = bounded.astype(self.dtype)
        return integers

    def to_floats(self, array: Array) -> Array:
        floats: Array = (array.astype(np.float32) - np.float32(self.zero)) * np.float32(self.step)
        return floats


@dataclass(frozen=True)
class Port:
    """One input or output: its tensor in the interpreter, and how its numbers are held, if as scaled integers."""

    node: Node
    tensor: str
    index: int
    scale: Scale | None


class InterpreterRunner:
    """One interpreter. Its tensors are laid out for the shapes of the last call, and laid out anew when others come."""

    def __init__(self, interpreter: Any, inputs: Sequence[Port], outputs: Sequence[Port], has_state: bool) -> None:
        self._interpreter = interpreter
        self._inputs = inputs
        self._outputs = outputs
        self._has_state = has_state
        self._shapes: list[tuple[int, ...]] | None = None

    def forward(self, inputs: Arrays) -> Arrays:
        arrays = [_held(port, inputs[port.node.name]) for port in self._inputs]
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            self._lay_out(shapes)
        elif self._has_state:
            self._interpreter.reset_all_variables()
        for port, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.set_tensor(port.index, array)
        self._interpreter.invoke()
        return {port.node.name: _told(port, self._interpreter.get_tensor(port.index)) for port in self._outputs}

    def _lay_out(self, shapes: list[tuple[int, ...]]) -> None:
        self._shapes = None
        for port, shape in zip(self._inputs, shapes, strict=True):
            self._interpreter.resize_tensor_input(port.index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


def _held(port: Port, array: Array) -> Array:
    return array if port.scale is None else port.scale.to_integers(array)


def _told(port: Port, array: Array) -> Array:
    return array if port.scale is None else port.scale.to_floats(array)


class LitertModel:
    """Not thread-safe: an interpreter holds the tensors of one call."""

    def __init__(self, runner: Runner, signature: Signature, facts: Mapping[str, str]) -> None:
        self.signature = signature
        self.facts = facts
        self._runner = runner

    def forward(self, inputs: Arrays) -> Arrays:
        return self._runner.forward(inputs)

    def close(self) -> None:
        self._runner = ClosedRunner()


def load(source: str, options: ModelOptions) -> Backend:
    """The model in a ``.tflite`` file, tried first in a process of its own: damaged weights can crash the runtime.

    Quantized inputs and outputs are FP32 here; ``options.options`` may say ``integers = true`` to have them as they are, and
    ``signature = "name"`` for a model with several. Axis 0 is the row axis as in the ONNX backend. Raises Setup:
    ``broken_model`` or ``wrong_setting``.
    """
    _check_options(source, options)
    _check_form(Path(source))
    rehearse(source, "foretell.backends.litert:try_out", source, _CURE)
    return _open(source, options)


def try_out(source: str) -> None:
    """Load a model and run it once on zeros: what ``load`` does in a process of its own."""
    model = _open(source, ModelOptions(rows=False))
    model.forward({spec.name: zeros(Node(spec.name, spec.dtype, spec.shape)) for spec in model.signature.inputs})


def _open(source: str, options: ModelOptions) -> LitertModel:
    with reading_model(source, _CURE):
        content = Path(source).read_bytes()
        threads = options.threads or usable_cpus()
        interpreter = Interpreter(model_content=content, num_threads=threads)
        graph = schema.Model.GetRootAs(content)
        facts = _facts(graph, threads)
        _check_state(source, graph)
        inputs, outputs = find_ports(source, interpreter, options)
        interpreter.allocate_tensors()
        runner = InterpreterRunner(interpreter, inputs, outputs, _has_variables(graph))
        outputs = _measured(runner, inputs, outputs)
    return _model(source, runner, [port.node for port in inputs], [port.node for port in outputs], options, facts)


def _model(
    source: str,
    runner: Runner,
    inputs: Sequence[Node],
    outputs: Sequence[Node],
    options: ModelOptions,
    facts: Mapping[str, str],
) -> LitertModel:
    rows = is_by_rows(inputs, outputs) if options.rows is None else options.rows
    if rows:
        runner = by_rows(source, runner, inputs, outputs)
    return LitertModel(runner, Signature(specs(inputs, rows, False), specs(outputs, rows, False), rows), facts)


def _check_options(source: str, options: ModelOptions) -> None:
    unknown = sorted(set(options.options) - set(OPTIONS))
    if unknown:
        text = f"{source}: the backend 'litert' takes the options {' and '.join(OPTIONS)} only"
        raise Setup("wrong_setting", f"{text}: remove {', '.join(unknown)} from [model.options]")


def _check_form(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] != IDENTIFIER:
        raise Setup("broken_model", f"{path} is not a LiteRT model, whose fifth to eighth bytes are TFL3: {_CURE}")


def find_ports(source: str, interpreter: Any, options: ModelOptions) -> tuple[list[Port], list[Port]]:
    """The inputs and outputs, by the names of the signature, or by those of the tensors in a model without one."""
    signatures = interpreter.get_signature_list()
    wanted = options.options.get("signature", _SERVING if len(signatures) != 1 else next(iter(signatures)))
    if signatures and wanted not in signatures:
        text = f"{source} has the signatures {', '.join(map(repr, signatures))}, none is {wanted!r}"
        raise Setup("wrong_setting", f'{text}: name one: [model.options] signature = "..."')
    given, told = interpreter.get_input_details(), interpreter.get_output_details()
    named_inputs, named_outputs = _by_tensor(given), _by_tensor(told)
    if signatures:
        runner = interpreter.get_signature_runner(wanted)
        named_inputs, named_outputs = runner.get_input_details(), runner.get_output_details()
    indices = {(each["index"], each["name"]) for each in [*given, *told]}
    if not {(each["index"], each["name"]) for each in [*named_inputs.values(), *named_outputs.values()]} <= indices:
        raise Setup("broken_model", f"{source}: the signature {wanted!r} is not of the main graph: convert it alone")
    integers = options.options.get("integers") is True
    return (
        [_port(source, "input", name, detail, integers) for name, detail in named_inputs.items()],
        [_port(source, "output", name, detail, integers) for name, detail in named_outputs.items()],
    )


def _by_tensor(details: Sequence[Any]) -> dict[str, Any]:
    """Names of tensors need not differ, nor be there."""
    names = [detail["name"] for detail in details]
    return {
        name if name and names.count(name) == 1 else f"{name}#{place}": detail
        for place, (name, detail) in enumerate(zip(names, details, strict=True))
    }


def _port(source: str, role: str, name: str, detail: Any, integers: bool) -> Port:
    held = np.dtype(detail["dtype"])
    try:
        dtype = Datatype.BF16 if held == ml_dtypes.bfloat16 else Datatype.of(held)
    except KeyError:
        raise Setup("broken_model", f"{source}: {role} {name!r} is {held}, which is not served here: export another") from None
    steps, zero_points = detail["quantization_parameters"]["scales"], detail["quantization_parameters"]["zero_points"]
    if len(steps) > 1:
        text = f"{source}: {role} {name!r} has a scale for each of {len(steps)} channels, which is not served here"
        raise Setup("broken_model", f"{text}: convert it with one scale for the tensor")
    scale = Scale(float(steps[0]), int(zero_points[0]), held) if len(steps) and dtype.is_integer and not integers else None
    dims = tuple(None if size < 0 else int(size) for size in detail["shape_signature"])
    return Port(Node(name, Datatype.FP32 if scale else dtype, dims), detail["name"], detail["index"], scale)


def _measured(runner: Runner, inputs: Sequence[Port], outputs: Sequence[Port]) -> list[Port]:
    """The outputs with the axes that they have in runs on two and on three rows of zeros: files tell them badly.

    Where such runs fail, for a model may well need more than zeros, it stays at what the file tells.
    """
    nodes = [port.node for port in inputs]
    grows = bool(nodes) and all(node.dims[:1] == (None,) for node in nodes)
    try:
        first, second = (runner.forward({node.name: _made_up(node, count, grows) for node in nodes}) for count in (2, 3))
    except (RuntimeError, ValueError):
        return list(outputs)
    return [replace(port, node=_seen(port.node, first[port.node.name].shape, second[port.node.name].shape)) for port in outputs]


def _made_up(node: Node, count: int, grows: bool) -> Array:
    return zeros(replace(node, dims=(count, *node.dims[1:])) if grows else node)


def _seen(node: Node, first: tuple[int, ...], second: tuple[int, ...]) -> Node:
    """An axis is open when the file says so, or says nothing, or when it grew with the rows."""
    told = node.dims if len(node.dims) == len(first) else (None,) * len(first)
    return replace(node, dims=tuple(size if a == b else None for size, a, b in zip(told, first, second, strict=True)))


def _facts(graph: Any, threads: int) -> dict[str, str]:
    operators = sorted({_operator(graph, place) for place in range(graph.OperatorCodesLength())})
    bound = [name for name in operators if name.startswith("HASHTABLE")]
    return {
        "format": f"LiteRT, schema {graph.Version()}",
        "runtime": f"ai-edge-litert {version('ai-edge-litert')}",
        "operators": ", ".join(operators),
        "parameters": f"{sum(_constants(graph)):,}",
        "provider": "CPU",
        "threads": str(threads),
        **({"elsewhere": f"no other runtime has {', '.join(bound)}"} if bound else {}),
    }


def _constants(graph: Any) -> Iterator[int]:
    """How many values each tensor has that is stored in the file."""
    for subgraph in _subgraphs(graph):
        tensors = (subgraph.Tensors(place) for place in range(subgraph.TensorsLength()))
        for tensor in tensors:
            if graph.Buffers(tensor.Buffer()).DataLength():
                yield math.prod(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))


def _operator(graph: Any, place: int) -> str:
    code = graph.OperatorCodes(place)
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # the older field ends at 127
    if number == schema.BuiltinOperator.CUSTOM:
        return (code.CustomCode() or b"?").decode("utf-8", "replace")
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    return str(names.get(number, number))


def _subgraphs(graph: Any) -> list[Any]:
    return [graph.Subgraphs(place) for place in range(graph.SubgraphsLength())]


def _has_variables(graph: Any) -> bool:
    """Whether tensors keep what they hold from one call to the next, unless they are told not to."""
    return any(each.Tensors(place).IsVariable() for each in _subgraphs(graph) for place in range(each.TensorsLength()))


def _check_state(source: str, graph: Any) -> None:
    """Refuses a model that writes what the next call reads: callers would see each other's."""
    operators = [_operator(graph, place) for place in range(graph.OperatorCodesLength())]
    starting = set()
    writing = set()
    for place, subgraph in enumerate(_subgraphs(graph)):
        for each in range(subgraph.OperatorsLength()):
            operator = subgraph.Operators(each)
            name = operators[operator.OpcodeIndex()]
            if name == "CALL_ONCE":
                options = schema.CallOnceOptionsT.InitFromObj(_call_once(operator))
                starting.add(options.initSubgraphIndex)
            elif name == "ASSIGN_VARIABLE":
                writing.add(place)
    if writing - starting:
        text = f"{source} keeps state between calls (ASSIGN_VARIABLE), which callers would share"
        raise Setup("broken_model", f"{text}: export it with the state as inputs and outputs")


def _call_once(operator: Any) -> Any:
    table = operator.BuiltinOptions()
    options = schema.CallOnceOptions()
    options.Init(table.Bytes, table.Pos)
    return options
