"""Modules that say nothing of their inputs: TorchScript, and a class with its weights in safetensors."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foretell.backends import Backend, ModelOptions, reading_model
from foretell.backends.torch.chosen import EXPORT, check_options, declared_specs, device_of, facts_of, log_trust, table_of
from foretell.backends.torch.run import ModuleRunner, TorchModel, array_of, leaves, tensor_of, told
from foretell.errors import Setup
from foretell.plugins import needs_extra
from foretell.storage import check_inside
from foretell.tensors import Array, Arrays, Datatype, Signature, TensorSpec
from foretell.user_code import load_attribute


def load_script(path: Path, options: ModelOptions) -> Backend:
    module, device = read_script(path, options)
    names = [argument.name for argument in module.forward.schema.arguments[1:]]
    return _described("TorchScript", path, options, module, device, names)


def read_script(path: Path, options: ModelOptions) -> tuple[Any, Any]:
    """The module in a TorchScript file, and the device that it is on. Raises Setup."""
    if not options.trust:
        raise Setup(
            "untrusted_model",
            f"{path} is TorchScript, a program that can read and write files: {EXPORT}, or, if you know who made the file, set "
            "`trust = true` in [model] of pipeline.toml or ModelOptions(trust=True)",
        )
    check_options(path, options, {"inputs": dict, "outputs": dict})
    device = device_of(path, options.providers)
    log_trust(path)
    with reading_model(path, f"check that the file is complete, or {EXPORT}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the format old
        module = torch.jit.load(str(path), map_location=device).eval()
    return module, device


def load_class(path: Path, options: ModelOptions) -> Backend:
    module, device = read_class(path, options)
    return _described("safetensors", path, options, module, device, [])


def read_class(path: Path, options: ModelOptions) -> tuple[Any, Any]:
    """The module of the user's class with the weights of the file, and the device that takes its inputs. Raises Setup."""
    check_options(path, options, {"class": str, "arguments": dict, "inputs": dict, "outputs": dict})
    source = options.options.get("class")
    if not isinstance(source, str):
        text = 'weights need the class that they are for: name it in [model.options], as class = "net.py:Net", beside the file'
        raise Setup("wrong_setting", f"{path}: {text}")
    check_inside(path.parent / source.rpartition(":")[0], path.parent)
    devices = [device_of(path, (name,)) for name in options.providers] or [torch.device("cpu")]
    made = load_attribute(str(path.parent / source))
    if not (isinstance(made, type) and issubclass(made, torch.nn.Module)):
        raise Setup("broken_code", f"{path.parent / source} is no class made from torch.nn.Module: name one")
    placed = {"devices": tuple(map(str, devices))} if len(devices) > 1 else {}
    with reading_model(path.parent / source, "correct the code, or [model.options] arguments", "broken_code"):
        module = made(**{**table_of(options, "arguments"), **placed}).eval()
    _fill(path, module)
    if placed:
        _check_placed(path, module, devices)
    else:
        module.to(devices[0])
    return module, devices[0]


def _fill(path: Path, module: Any) -> None:
    """The weights into the module. Raises Setup ``broken_model`` when they are not those of its class."""
    with needs_extra("a model in safetensors", "torch"):
        from safetensors.torch import load_file
    with reading_model(path, "save it again with safetensors.torch.save_file(model.state_dict(), ...)"):
        weights = load_file(path)
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(own.keys() | found.keys()):
        if own.get(name) != found.get(name):
            had, wanted = (shapes.get(name, "missing") for shapes in (found, own))
            text = f"{name!r} is {had} in the file and {wanted} in {type(module).__name__}"
            raise Setup("broken_model", f"{path} holds the weights of another class: {text}: correct class or arguments")
    module.load_state_dict(weights)


def _check_placed(path: Path, module: Any, devices: Sequence[Any]) -> None:
    used = {str(tensor.device) for tensor in module.state_dict().values()}
    idle = [str(device) for device in devices if str(device) not in used]
    if idle:
        text = f"{path} is to run on {', '.join(idle)}, but {type(module).__name__} put nothing there, of its keyword `devices`"
        raise Setup("wrong_provider", f"{text}: correct the class or providers")


def _described(kind: str, path: Path, options: ModelOptions, module: Any, device: Any, arguments: Sequence[str]) -> Backend:
    """A module without a signature of its own: inputs as declared; outputs too, or measured by a run on zeros."""
    rows = options.rows is not False
    inputs, outputs = (declared_specs(options, name) for name in ("inputs", "outputs"))
    if not inputs:
        text = f" (it takes {', '.join(arguments)})" if arguments else ""
        cure = f'[model.options.inputs] {(arguments or ["x"])[0]} = "FP32[30]"'
        raise Setup("wrong_setting", f"{path} does not say what it takes{text}: describe a row of each input, as {cure}")
    is_open = any(None in spec.shape for spec in inputs)
    if is_open and not outputs:
        raise Setup(
            "wrong_setting", f"{path}: an input's length is open, so describe the outputs too, in [model.options.outputs]"
        )
    copies = device.type == "cpu"
    if not is_open:
        trial = {spec.name: _rows_of_zeros(spec, rows) for spec in inputs}
        with reading_model(path, "tried with two rows of zeros: correct its inputs or outputs in [model.options]"):
            measure = ModuleRunner(module, _in_order, [], device, copies)
            outputs = _measured(measure, trial, outputs, rows)
    runner = ModuleRunner(module, _in_order, [spec.name for spec in outputs], device, copies)
    facts = facts_of(kind, path, module.state_dict().values(), device)
    facts["elsewhere"] = f"{kind} runs by PyTorch alone: {EXPORT}"
    return TorchModel(runner, Signature(inputs, outputs, rows), facts, kind == "TorchScript")


def _measured(runner: ModuleRunner, trial: Arrays, declared: Sequence[TensorSpec], rows: bool) -> tuple[TensorSpec, ...]:
    with torch.inference_mode():
        answer = runner.module(*[tensor_of(array, True).to(runner.device) for array in trial.values()])
    several = isinstance(answer, Mapping | list | tuple)
    parts = dict(leaves(answer))
    names = [spec.name for spec in declared] or [
        name if isinstance(answer, Mapping) else f"output_{name}" if several else "output" for name in parts
    ]
    found = []
    for name, leaf in told(answer, names):
        array = array_of(leaf)
        if rows and array.shape[:1] != (2,):
            raise ValueError(
                f"output {name!r} has the shape {list(array.shape)} for two rows: say `rows = false` if it takes none"
            )
        found.append(TensorSpec(name, Datatype.of(array.dtype), array.shape[rows:]))
    for said, got in zip(declared, found, strict=False):
        if said.dtype is not got.dtype or not said.fits(tuple(size or 0 for size in got.shape)):
            raise ValueError(f"the output {said} was given as {got}")
    return tuple(declared or found)


def _in_order(tensors: Sequence[Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    return tensors, {}


def _rows_of_zeros(spec: TensorSpec, rows: bool) -> Array:
    return np.zeros(((2,) if rows else ()) + tuple(size or 1 for size in spec.shape), spec.dtype.numpy)
