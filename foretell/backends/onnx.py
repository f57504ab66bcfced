"""ONNX models, run by onnxruntime on the CPU. Nothing but the file is trusted: no custom operators, no data from elsewhere."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from foretell.axes import ClosedRunner, Node, Runner, by_rows, is_by_rows, measure, specs
from foretell.backends import Backend, ModelOptions, reading_model
from foretell.cpus import usable_cpus
from foretell.errors import Setup
from foretell.formats.onnx import check_external_data, describe_onnx
from foretell.tensors import Array, Arrays, Datatype, Signature

_DATATYPES = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(bfloat16)": Datatype.BF16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
}
_BFLOAT16 = 16  # TensorProto.DataType
_PROVIDER = "CPUExecutionProvider"


@dataclass(frozen=True)
class PlainRunner:
    """Numbers only: numpy in, numpy out."""

    session: Any
    outputs: Sequence[str]

    def forward(self, inputs: Arrays) -> Arrays:
        return dict(zip(self.outputs, self.session.run(self.outputs, dict(inputs)), strict=True))


@dataclass(frozen=True)
class TextRunner:
    """Some tensors are strings: the runtime speaks ``str``, the arrays ``bytes`` (UTF-8)."""

    plain: PlainRunner
    inputs: frozenset[str]
    outputs: frozenset[str]

    def forward(self, inputs: Arrays) -> Arrays:
        given = {name: _texts(array) if name in self.inputs else array for name, array in inputs.items()}
        answers = self.plain.forward(given)
        return {name: _encoded(array) if name in self.outputs else array for name, array in answers.items()}


@dataclass(frozen=True)
class ValueRunner:
    """Some tensors are BF16, which numpy lacks: everything crosses as the runtime's own values."""

    session: Any
    outputs: Sequence[str]

    def forward(self, inputs: Arrays) -> Arrays:
        given = {name: _value(np.ascontiguousarray(array)) for name, array in inputs.items()}
        answers = self.session.run_with_ort_values(self.outputs, given)
        return {name: _array(value) for name, value in zip(self.outputs, answers, strict=True)}


class OnnxModel:
    """An ONNX graph as a backend. Thread-safe: one session may be shared by threads."""

    thread_safe = True

    def __init__(self, runner: Runner, signature: Signature, facts: Mapping[str, str]) -> None:
        self.signature = signature
        self.facts = facts
        self._runner = runner

    def forward(self, inputs: Arrays) -> Arrays:
        return self._runner.forward(inputs)

    def close(self) -> None:
        self._runner = ClosedRunner()


def load(source: str | bytes, options: ModelOptions) -> Backend:
    """The ONNX model in a file, or in memory.

    Axis 0 is the row axis when every input and output has one, and all of them leave its length open, or all fix it at the
    same number; ``options.rows`` overrides that. Raises Setup: ``broken_model``, ``outside_folder`` or ``wrong_provider``.
    """
    name = "the ONNX model in memory" if isinstance(source, bytes) else source
    with reading_model(name, "check that the file is complete, or export the model to ONNX again with standard operators"):
        facts = _check(source)
        session = _session(name, source, options)
    inputs = [_node(name, "input", value) for value in session.get_inputs()]
    outputs = [_node(name, "output", value) for value in session.get_outputs()]
    runner = _runner(name, session, inputs, outputs)
    with reading_model(name, "an output has no shape in the graph, and a trial on zeros failed: declare the shape"):
        outputs = measure(runner, inputs, outputs)
    rows = is_by_rows(inputs, outputs) if options.rows is None else options.rows
    if rows:
        runner = by_rows(name, runner, inputs, outputs)
    facts["provider"] = ", ".join(session.get_providers())
    facts["threads"] = str(session.get_session_options().intra_op_num_threads)
    return OnnxModel(runner, Signature(specs(inputs, rows), specs(outputs, rows), rows), facts)


def _check(source: str | bytes) -> dict[str, str]:
    """Refuses data files outside the model's folder, and tells what the file says of itself."""
    facts = {"format": "ONNX", "runtime": f"onnxruntime {onnxruntime.__version__}"}
    if isinstance(source, bytes):
        check_external_data(source)
        return {**facts, **describe_onnx(source)}
    check_external_data(Path(source))
    return {**facts, **describe_onnx(Path(source))}


def _session(name: str, source: str | bytes, options: ModelOptions) -> Any:
    """A session on the providers that were asked for, every one of them: the runtime alone would fall back in silence."""
    wanted = options.providers or (_PROVIDER,)
    there = onnxruntime.get_available_providers()
    missing = [provider for provider in wanted if provider not in there]
    if missing:
        text = f"{name} is to run on {', '.join(missing)}, but the installed onnxruntime has {', '.join(there)}"
        raise Setup("wrong_provider", f"{text}: install another, or correct providers")
    session = onnxruntime.InferenceSession(source, _session_options(options), providers=list(wanted))
    active = session.get_providers()
    lost = [provider for provider in wanted if provider not in active]
    if lost:
        text = f"{name} is to run on {', '.join(lost)}, which could not be started: only {', '.join(active)} was"
        raise Setup("wrong_provider", f"{text}: check its driver and libraries, or correct providers")
    return session


def _session_options(options: ModelOptions) -> Any:
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = options.threads or usable_cpus()
    chosen.inter_op_num_threads = 1
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    chosen.enable_mem_pattern = False  # it would keep a plan, and memory, for every shape and number of rows that ever came
    chosen.log_severity_level = 3  # errors: what matters is raised, and reaches the log from there
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen.add_session_config_entry("session.inter_op.allow_spinning", "0")
    chosen.add_session_config_entry("session.load_model_format", "ONNX")  # what was checked is the ONNX form alone
    return chosen


def _node(model: str, role: str, value: Any) -> Node:
    dtype = _DATATYPES.get(value.type)
    if dtype is None:
        cure = (
            "export the classifier without ZipMap: options={id(model): {'zipmap': False}}"
            if "map(" in value.type
            else "export it with tensors of an Open Inference datatype"
        )
        raise Setup("broken_model", f"{model}: {role} {value.name!r} is {value.type}, which is not served here: {cure}")
    return Node(value.name, dtype, tuple(size if isinstance(size, int) and size >= 0 else None for size in value.shape))


def _runner(model: str, session: Any, inputs: Sequence[Node], outputs: Sequence[Node]) -> Runner:
    names = [node.name for node in outputs]
    types = {node.dtype for node in [*inputs, *outputs]}
    if {Datatype.BF16, Datatype.BYTES} <= types:
        raise Setup(
            "broken_model", f"{model} has both BF16 and string tensors, which cannot be run together: export BF16 as FP32"
        )
    if Datatype.BF16 in types:
        return ValueRunner(session, names)
    plain = PlainRunner(session, names)
    return TextRunner(plain, _texts_of(inputs), _texts_of(outputs)) if Datatype.BYTES in types else plain


def _texts_of(nodes: Sequence[Node]) -> frozenset[str]:
    return frozenset(node.name for node in nodes if node.dtype is Datatype.BYTES)


def _texts(array: Array) -> Array:
    return _mapped(array, lambda item: item if isinstance(item, str) else item.decode())


def _encoded(array: Array) -> Array:
    return _mapped(array, str.encode)


def _mapped(array: Array, change: Callable[[Any], object]) -> Array:
    changed = np.empty(array.shape, np.object_)
    changed.reshape(-1)[:] = [change(item) for item in array.flat]
    return changed


def _value(array: Array) -> Any:
    if array.dtype == Datatype.BF16.numpy:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _array(value: Any) -> Array:
    if value.data_type() != "tensor(bfloat16)":
        ready: Array = value.numpy()
        return ready
    array = np.empty(value.shape(), Datatype.BF16.numpy)
    ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array
