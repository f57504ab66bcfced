"""OpenVINO models (IR, or ONNX where that is asked for), on Intel's runtime: processors, graphics cards and NPUs by name.

https://docs.openvino.ai/2025/openvino-workflow/running-inference.html
"""

import functools
import importlib
import math
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foretell.axes import ClosedRunner, Node, Runner, by_rows, is_by_rows, measure, specs
from foretell.backends import Backend, ModelOptions, reading_model, recognize
from foretell.cpus import usable_cpus
from foretell.errors import Setup
from foretell.formats.onnx import check_external_data, describe_onnx
from foretell.plugins import did_you_mean
from foretell.tensors import Arrays, Datatype, Signature

_TELEMETRY = "openvino_telemetry"


@contextmanager
def _untold() -> Iterator[None]:
    """Imports as if the package were not installed that tells the runtime's makers of every import: they then tell nobody."""
    there = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # so that importing it fails: documented for sys.modules
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]
        if there is not None:
            sys.modules[_TELEMETRY] = there


with _untold():
    openvino = importlib.import_module("openvino")

_DATATYPES = {
    "boolean": Datatype.BOOL,
    "u8": Datatype.UINT8,
    "u16": Datatype.UINT16,
    "u32": Datatype.UINT32,
    "u64": Datatype.UINT64,
    "i8": Datatype.INT8,
    "i16": Datatype.INT16,
    "i32": Datatype.INT32,
    "i64": Datatype.INT64,
    "f16": Datatype.FP16,
    "bf16": Datatype.BF16,
    "f32": Datatype.FP32,
    "f64": Datatype.FP64,
}
_CURE = "check that the file is complete, or convert the model again with `foretell convert`"
_PRECISIONS = {"FP32": "f32", "BF16": "bf16", "FP16": "f16"}
_CHOOSERS = ("AUTO", "MULTI", "HETERO")


@dataclass(frozen=True)
class RequestRunner:
    """Runs arrays through the compiled model, each calling thread by a request of its own."""

    compiled: Any
    inputs: Sequence[Node]
    outputs: Sequence[Node]
    requests: threading.local = field(default_factory=threading.local)

    def forward(self, inputs: Arrays) -> Arrays:
        request = getattr(self.requests, "one", None)
        if request is None:
            request = self.requests.one = self.compiled.create_infer_request()
        answers = request.infer([inputs[node.name] for node in self.inputs], share_inputs=True)
        return {node.name: answers[place] for place, node in enumerate(self.outputs)}


@dataclass(frozen=True)
class Bf16Runner:
    """Gives BF16, which the runtime hands over as if it were FP16, its own datatype back."""

    plain: RequestRunner

    def forward(self, inputs: Arrays) -> Arrays:
        answers = self.plain.forward(inputs)
        halves = {node.name for node in self.plain.outputs if node.dtype is Datatype.BF16}
        return {name: array.view(Datatype.BF16.numpy) if name in halves else array for name, array in answers.items()}


class OpenvinoModel:
    """A compiled model as a backend. Thread-safe: every thread has a request of its own."""

    thread_safe = True

    def __init__(self, runner: Runner, signature: Signature, facts: Mapping[str, str]) -> None:
        self.signature = signature
        self.facts = facts
        self._runner = runner

    def forward(self, inputs: Arrays) -> Arrays:
        return self._runner.forward(inputs)

    def close(self) -> None:
        self._runner = ClosedRunner()


@functools.cache
def runtime() -> Any:
    """The one Core of the process, which is never let go.

    Each Core puts a stack for signal handlers in place, and when it goes puts back the one before, even if that is gone: with
    several that come and go, the next signal would end the process.
    """
    return openvino.Core()


def load(source: str, options: ModelOptions) -> Backend:
    """The model in an ``.xml`` file with its ``.bin``, or in an ``.onnx`` file.

    ``options.providers`` are the devices as the runtime names them: ``CPU`` (the default), ``GPU``, ``GPU.1``, ``NPU``; several
    share the model between them (HETERO), and ``AUTO:GPU,CPU`` or ``MULTI:GPU,CPU`` let the runtime choose. Every device that
    is named must be there. ``options.options`` takes ``precision``: FP32, or BF16 or FP16 where less precise and faster kernels
    may be used. The rows axis is found as in ONNX models. Raises Setup: ``broken_model``, ``outside_folder``,
    ``wrong_provider`` or ``wrong_setting``.
    """
    precision = _precision(source, options.options)
    facts = _check(Path(source))
    device = _device(source, options.providers)
    with reading_model(source, _CURE):
        model = runtime().read_model(source)
        inputs = [_node(source, "input", port) for port in model.inputs]
        outputs = [_node(source, "output", port) for port in model.outputs]
        compiled = _compile(model, device, options.threads or usable_cpus(), precision)
    used = _used(source, device, compiled)
    plain = RequestRunner(compiled, inputs, outputs)
    runner: Runner = Bf16Runner(plain) if any(node.dtype is Datatype.BF16 for node in outputs) else plain
    with reading_model(source, "an output has no shape in the graph, and a trial on zeros failed: declare the shape"):
        outputs = measure(runner, inputs, outputs)
    rows = is_by_rows(inputs, outputs) if options.rows is None else options.rows
    if rows:
        runner = by_rows(source, runner, inputs, outputs)
    facts |= {"provider": used, "threads": str(options.threads or usable_cpus()), **_count(model)}
    return OpenvinoModel(runner, Signature(specs(inputs, rows), specs(outputs, rows), rows), facts)


def _precision(source: str, options: Mapping[str, object]) -> str:
    for key in options:
        if key != "precision":
            raise Setup("wrong_setting", f"{source}: an OpenVINO model has no option {key!r}{did_you_mean(key, ['precision'])}")
    chosen = options.get("precision", "FP32")
    if chosen not in _PRECISIONS:
        raise Setup("wrong_setting", f"{source}: option 'precision' takes {', '.join(_PRECISIONS)}, got {chosen!r}")
    return _PRECISIONS[str(chosen)]


def _check(path: Path) -> dict[str, str]:
    """That the file is what its name says, as the runtime guesses by content, and reads no file from elsewhere."""
    facts = {"runtime": f"openvino {openvino.__version__.partition('-')[0]}"}
    if path.suffix.lower() == ".onnx":
        with reading_model(path, _CURE):
            check_external_data(path)
            return {"format": "ONNX", **facts, **describe_onnx(path)}
    if path.suffix.lower() != ".xml" or recognize(path) != "openvino":
        raise Setup("broken_model", f"{path} is neither an OpenVINO IR (.xml, which begins with <net>) nor ONNX: {_CURE}")
    weights = path.with_suffix(".bin")
    if weights.is_symlink():
        raise Setup("outside_folder", f"{weights} is a symbolic link: put a real copy there")
    size = path.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)
    elsewhere = "an IR runs on OpenVINO alone: keep the model that it was made from"
    return {"format": "OpenVINO IR", **facts, "size": f"{size:,} bytes", "elsewhere": elsewhere}


def _device(source: str, wanted: Sequence[str]) -> str:
    """What the runtime calls the devices. Raises Setup ``wrong_provider`` if one is not there."""
    device = wanted[0] if len(wanted) == 1 else f"HETERO:{','.join(wanted)}" if wanted else "CPU"
    there = runtime().available_devices
    missing = [name for name in _named(device) if not _is_there(name, there)]
    if missing:
        text = f"{source} is to run on {', '.join(missing)}, but OpenVINO finds {', '.join(there)}"
        raise Setup("wrong_provider", f"{text}: install its driver, or correct providers")
    return device


def _named(device: str) -> list[str]:
    """The devices in ``GPU.1`` or ``HETERO:GPU,CPU``; none in ``AUTO``."""
    chooser, colon, names = device.partition(":")
    if chooser in _CHOOSERS:
        return [name for name in names.split(",") if name] if colon else []
    return [device]


def _is_there(name: str, there: Sequence[str]) -> bool:
    """``GPU`` is there as ``GPU`` or ``GPU.0``, and ``GPU.0`` as either where there is one alone."""
    kind = name.removesuffix(".0")
    return name in there or kind in there or (kind == name and f"{name}.0" in there)


def _compile(model: Any, device: str, threads: int, precision: str) -> Any:
    of_cpu = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    if precision == "f32":
        hints = {"PERFORMANCE_HINT": "LATENCY", "EXECUTION_MODE_HINT": "ACCURACY"}  # no dynamic quantization either
    if device == "CPU":
        hints |= of_cpu
    elif "CPU" in _named(device) or device == "AUTO":
        hints["DEVICE_PROPERTIES"] = {"CPU": of_cpu}
    try:
        return runtime().compile_model(model, device, hints)
    except RuntimeError as error:
        if device == "CPU":
            raise
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = f"the model cannot be compiled for {device} ({said[-1][:300] if said else error!r})"
        raise Setup("wrong_provider", f"{text}: check the device's driver, or correct providers") from error


def _used(source: str, device: str, compiled: Any) -> str:
    """The devices that the model really runs on. Raises Setup where one was named and left out, but by ``AUTO``."""
    used = [str(name).strip("()") for name in compiled.get_property("EXECUTION_DEVICES")]
    lost = [] if device.startswith("AUTO") else [name for name in _named(device) if not _is_there(name, used)]
    if lost:
        text = f"{source} is to run on {', '.join(lost)} too, but none of it does: only on {', '.join(used)}"
        raise Setup("wrong_provider", f"{text}: leave it out of providers")
    return ", ".join(used) if device in used else f"{', '.join(used)} ({device})"


def _node(model: str, role: str, port: Any) -> Node:
    """A port as a node; one that has no name is called after what gives it."""
    name = port.any_name if port.names else port.node.friendly_name
    told = port.element_type.get_type_name()
    dtype = _DATATYPES.get(told)
    if dtype is None:
        cure = (
            "serve its ONNX form with the backend onnx: this runtime's texts are not safe to share"
            if told == "string"
            else "convert it with tensors of an Open Inference datatype"
        )
        raise Setup("broken_model", f"{model}: {role} {name!r} is {told}, which is not served here: {cure}")
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return Node(name, dtype, ())
    return Node(name, dtype, tuple(size.get_length() if size.is_static else None for size in shape))


def _count(model: Any) -> dict[str, str]:
    """The number of parameters, and the operators."""
    nodes = model.get_ops()
    kinds = sorted({node.get_type_name() for node in nodes} - {"Parameter", "Result", "Constant"})
    constants = (node.output(0) for node in nodes if node.get_type_name() == "Constant")
    count = sum(
        math.prod(port.get_shape())
        for port in constants
        if port.get_element_type().is_real() or port.get_element_type().get_type_name() in ("i8", "u8", "i4", "u4")
    )
    return {"parameters": f"{count:,}", "operators": ", ".join(kinds)}
