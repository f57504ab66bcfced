"""Models of PyTorch to ONNX: what can be exported by its new exporter, TorchScript by the older one.

https://docs.pytorch.org/docs/stable/onnx.html
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxscript  # noqa: F401 - the exporter needs it: say so before the work, not after
import torch

from foretell.backends import ModelOptions, load_backend
from foretell.backends.torch.described import read_class, read_script
from foretell.backends.torch.exported import read_exported
from foretell.backends.torch.run import tensor_of
from foretell.formats.torch import EXPORTED, kind_of
from foretell.tensors import Signature, TensorSpec

OPSET = 18
_OPEN_LENGTH = 16


def convert(source: str, target: Path, options: ModelOptions) -> None:
    path = Path(source)
    backend = load_backend(source, replace(options, providers=()), "torch")
    signature = backend.signature
    backend.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix.lower() == ".safetensors":
            module, _ = read_class(path, replace(options, providers=()))
            _from_module(module, signature, target)
        elif kind_of(path) == EXPORTED:
            _from_program(read_exported(path, options.trust), signature, target)
        else:
            module, _ = read_script(path, replace(options, providers=()))
            _from_script(module, signature, target)
    onnx.checker.check_model(str(target))


def _from_module(module: Any, signature: Signature, target: Path) -> None:
    """By the new exporter; by the older one what this cannot export with open lengths, as recurrent layers."""
    shapes = tuple(_open_axes(spec, signature.rows, torch.export.Dim.DYNAMIC) for spec in signature.inputs)
    try:
        program = torch.export.export(module, _samples(signature), dynamic_shapes=shapes)
    except RuntimeError:
        _from_script(module, signature, target)
    else:
        _from_program(program, signature, target)


def _from_program(program: Any, signature: Signature, target: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    made = torch.onnx.export(
        program,
        input_names=[spec.name for spec in signature.inputs],
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if made is None:
        raise ValueError("the exporter gave no model")
    _name_outputs(made.model.graph, [spec.name for spec in signature.outputs])
    made.save(str(target), external_data=_is_large(program))


def _name_outputs(graph: Any, names: Sequence[str]) -> None:
    """The outputs as the signature has them; a value inside that has such a name gets another."""
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.name in names:
                value.name = f"{value.name}/inner"
    for output, name in zip(graph.outputs, names, strict=True):
        if output.producer() is not None:  # else it is an input as it came in, whose name stays
            output.name = name


def _from_script(module: Any, signature: Signature, target: Path) -> None:
    named = [*signature.inputs, *signature.outputs]
    torch.onnx.export(
        module,
        _samples(signature),
        str(target),
        input_names=[spec.name for spec in signature.inputs],
        output_names=[spec.name for spec in signature.outputs],
        dynamic_axes={spec.name: axes for spec in named if (axes := _open_axes(spec, signature.rows, None))},
        opset_version=OPSET - 1,
        dynamo=False,
    )


def _open_axes(spec: TensorSpec, rows: bool, mark: Any) -> dict[int, Any]:
    """The axes of any length, each with its mark, or else with a name."""
    lengths = ((None,) if rows else ()) + tuple(spec.shape)
    names = ["rows" if rows and not axis else f"{spec.name}_{axis}" for axis in range(len(lengths))]
    return {axis: mark or names[axis] for axis, length in enumerate(lengths) if length is None}


def _samples(signature: Signature) -> tuple[Any, ...]:
    return tuple(tensor_of(np.zeros(_shape(spec, signature.rows), spec.dtype.numpy), True) for spec in signature.inputs)


def _shape(spec: TensorSpec, rows: bool) -> Sequence[int]:
    return [*([2] if rows else []), *(_OPEN_LENGTH if size is None else size for size in spec.shape)]


def _is_large(program: Any) -> bool:
    """Whether the weights exceed the 2 GB of one ONNX file: then they go to a file beside it."""
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    return bool(size > 1_900_000_000)
