"""Keras models: ``.keras`` archives, and SavedModel folders, both run by TensorFlow as compiled functions.

https://keras.io/guides/serialization_and_saving/, https://www.tensorflow.org/guide/saved_model
"""

import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from foretell.axes import ClosedRunner, Node, Runner, by_rows, is_by_rows, measure, specs
from foretell.backends import Backend, ModelOptions, reading_model
from foretell.cpus import usable_cpus
from foretell.errors import Setup
from foretell.formats.keras import read_keras
from foretell.tensors import Arrays, Datatype, Signature

SAVED_MODEL = "saved_model.pb"
OPTIONS = ("signature",)
_SERVING = "serving_default"
_PLUMBING = {"Const", "Identity", "NoOp", "PartitionedCall", "Placeholder", "ReadVariableOp", "StatefulPartitionedCall"}
_BOUND = re.compile(r"String|Regex|StaticRegex|HashTable|Lookup|PyFunc|EagerPyFunc|Parse|Decode|(Read|Write)File")
_log = logging.getLogger("foretell")


@dataclass(frozen=True)
class FunctionRunner:
    """A compiled function of named tensors. TensorFlow lets several threads run it at once."""

    function: Callable[..., Mapping[str, Any]]
    outputs: Mapping[str, Datatype]

    def forward(self, inputs: Arrays) -> Arrays:
        answers = self.function(**{name: tf.constant(array) for name, array in inputs.items()})
        return {name: np.asarray(answers[name].numpy(), dtype.numpy) for name, dtype in self.outputs.items()}


class KerasModel:
    """Thread-safe: a compiled function keeps no state of a call."""

    thread_safe = True

    def __init__(self, runner: Runner, signature: Signature, facts: Mapping[str, str]) -> None:
        self.signature = signature
        self.facts = facts
        self._runner = runner

    def forward(self, inputs: Arrays) -> Arrays:
        return self._runner.forward(inputs)

    def close(self) -> None:
        self._runner = ClosedRunner()


def load(source: str, options: ModelOptions) -> Backend:
    """The model in a ``.keras`` file, or in a SavedModel folder, which is a program and so needs ``options.trust``.

    A SavedModel's signature is ``serving_default`` unless ``options.options`` has another ``signature``. Axis 0 is the row
    axis as in the ONNX backend. TensorFlow has one number of threads for a process: the first model's. Raises Setup:
    ``broken_model``, ``untrusted_model`` or ``wrong_setting``.
    """
    _check_options(source, options)
    _set_threads(options.threads or usable_cpus())
    path = Path(source)
    opened = _saved_model(path, options) if path.is_dir() else _archive(path, options).opened
    return _model(source, opened, options)


@dataclass(frozen=True)
class _Opened:
    function: Callable[..., Mapping[str, Any]]
    inputs: Sequence[Node]
    outputs: Sequence[Node]
    facts: dict[str, str]


def _model(source: str, opened: _Opened, options: ModelOptions) -> KerasModel:
    inputs, outputs = opened.inputs, opened.outputs
    runner: Runner = FunctionRunner(opened.function, {node.name: node.dtype for node in outputs})
    with reading_model(source, "an output has no declared shape, and a trial on zeros failed: declare the shape"):
        outputs = measure(runner, inputs, outputs)
    rows = is_by_rows(inputs, outputs) if options.rows is None else options.rows
    if rows:
        runner = by_rows(source, runner, inputs, outputs)
    facts = {**opened.facts, "runtime": f"tensorflow {tf.__version__}, keras {keras.__version__}"}
    facts["provider"] = ", ".join(f"{device.device_type}:{device.name[-1]}" for device in tf.config.list_logical_devices())
    facts["threads"] = str(tf.config.threading.get_intra_op_parallelism_threads())
    return KerasModel(runner, Signature(specs(inputs, rows, False), specs(outputs, rows, False), rows), facts)


def _check_options(source: str, options: ModelOptions) -> None:
    unknown = sorted(set(options.options) - set(OPTIONS))
    if unknown:
        text = f"{source}: the backend 'keras' takes the option {OPTIONS[0]} only"
        raise Setup("wrong_setting", f"{text}: remove {', '.join(unknown)} from [model.options]")
    if keras.backend.backend() != "tensorflow":
        text = f"{source} is run by TensorFlow, but Keras is set to {keras.backend.backend()!r}"
        raise Setup("wrong_setting", f"{text}: set the environment's KERAS_BACKEND to tensorflow")


def _set_threads(count: int) -> None:
    """Unless TensorFlow runs already: then it keeps the number that it has."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        _log.debug("TensorFlow keeps its %d threads", tf.config.threading.get_intra_op_parallelism_threads())


def export(source: str, folder: Path, options: ModelOptions) -> None:
    """Writes an archive as a SavedModel whose signature ``serving_default`` has the names that the backend gives it.

    Raises Setup: ``broken_model`` or ``untrusted_model``.
    """
    net = _archive(Path(source), options)
    with reading_model(source, "TensorFlow cannot export it"):
        archive = keras.export.ExportArchive()  # which lists the variables: else converters leave them out
        archive.track(net.model)
        archive.add_endpoint(_SERVING, net.function)
        archive.write_out(str(folder), verbose=False)


@dataclass(frozen=True)
class _Net:
    """A model, and the function of it that takes tensors in order and gives them by name."""

    model: Any
    function: Any
    opened: _Opened


def _archive(path: Path, options: ModelOptions) -> _Net:
    cure = f"check that the file is complete, or save it with model.save and a Keras that is not newer than {keras.__version__}"
    with reading_model(path, cure):
        facts = read_keras(path, options.trust)
        if options.trust:
            _log.info("loading %s as trusted, sha256 %s", path, _sha256(path))
        model = keras.saving.load_model(str(path), compile=False, safe_mode=not options.trust)
        facts["parameters"] = f"{model.count_params():,}"
    if not model.built or not getattr(model, "inputs", None):
        text = f"{path} is a subclassed model, whose inputs no file tells"
        raise Setup("broken_model", f"{text}: export it with model.export('folder'), and serve that folder")
    with reading_model(path, cure):
        return _compiled(path, model, facts)


def _compiled(path: Path, model: Any, facts: dict[str, str]) -> _Net:
    flat = keras.Model(model.inputs, model.outputs)
    inputs = [_node(path, "input", tensor.name, tensor.dtype, tensor.shape) for tensor in model.inputs]
    names = _output_names(model, flat)
    outputs = [_node(path, "output", name, t.dtype, t.shape) for name, t in zip(names, model.outputs, strict=True)]
    taken = [tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name) for tensor in model.inputs]

    def answer(*tensors: Any) -> Mapping[str, Any]:
        return dict(zip(names, keras.tree.flatten(flat(list(tensors), training=False)), strict=True))

    function = tf.function(answer, input_signature=taken)
    concrete = function.get_concrete_function()
    facts |= _operators(concrete)

    def run(**tensors: Any) -> Mapping[str, Any]:
        answers: Mapping[str, Any] = concrete(*(tensors[node.name] for node in inputs))
        return answers

    return _Net(flat, function, _Opened(run, inputs, outputs, facts))


def _output_names(model: Any, flat: Any) -> list[str]:
    """The keys of a model that answers with a dict; else the names of its last layers."""
    told = getattr(model, "_outputs_struct", None)
    if isinstance(told, dict):
        keys = {id(tensor): str(key) for key, tensor in told.items()}
        return [keys[id(tensor)] for tensor in model.outputs]
    names = list(flat.output_names)
    return [name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names)]


def _saved_model(path: Path, options: ModelOptions) -> _Opened:
    if not options.trust:
        text = f"{path} is a SavedModel, and such a model is a program: it may read and write files when it runs"
        cure = "if you know who made it, set `trust = true` in [model]; or ask for the model as ONNX, which needs no trust"
        raise Setup("untrusted_model", f"{text}: {cure}")
    cure = "check that saved_model.pb and the folder variables are complete, or export the model again"
    wanted = options.options.get("signature", _SERVING)
    with reading_model(path, cure):
        _log.info("loading %s as trusted, sha256 %s", path / SAVED_MODEL, _sha256(path / SAVED_MODEL))
        module = tf.saved_model.load(str(path))
        if wanted in module.signatures:
            return _signature(path, module, module.signatures[wanted])
    there = ", ".join(map(repr, module.signatures)) or "none"
    text = f"{path} has no signature {wanted!r}, there are: {there}"
    raise Setup("wrong_setting", f'{text}: name one: [model.options] signature = "..."')


def _signature(path: Path, module: Any, function: Any) -> _Opened:
    taken, told = function.structured_input_signature[1], function.structured_outputs
    inputs = [_node(path, "input", name, spec.dtype.name, spec.shape) for name, spec in taken.items()]
    outputs = [_node(path, "output", name, spec.dtype.name, spec.shape) for name, spec in told.items()]

    function.module = module  # or else its variables would be freed
    parameters = sum(int(np.prod(variable.shape)) for variable in function.variables)
    facts = {"format": "SavedModel", "parameters": f"{parameters:,}", **_operators(function)}
    return _Opened(function, inputs, outputs, facts)


def _operators(function: Any) -> dict[str, str]:
    """The operators of a graph and of the functions that it calls, and those that no conversion has."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    kinds = sorted({node.op for node in nodes} - _PLUMBING)
    bound = [kind for kind in kinds if _BOUND.match(kind)]
    facts = {"operators": ", ".join(kinds)}
    return {**facts, "elsewhere": f"no other runtime has {', '.join(bound)}"} if bound else facts


def _node(path: Path, role: str, name: str, dtype: str, shape: Any) -> Node:
    try:
        datatype = Datatype.BYTES if dtype == "string" else Datatype.of(np.dtype(tf.dtypes.as_dtype(dtype).as_numpy_dtype))
    except (KeyError, TypeError):
        raise Setup("broken_model", f"{path}: {role} {name!r} is {dtype}, which is not served here: export another") from None
    if role == "input" and getattr(shape, "rank", 0) is None:
        raise Setup("broken_model", f"{path}: input {name!r} has no shape: export it with one in its signature")
    return Node(name, datatype, () if getattr(shape, "rank", 0) is None else tuple(shape))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
