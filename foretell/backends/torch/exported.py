"""Exported programs (.pt2), which bring their signature."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export.passes import move_to_device_pass
from torch.export.pt2_archive import _package  # torch.export.load logs a traceback, and reads on as if it were an older file

from foretell.axes import Node, Runner, by_rows, is_by_rows, specs
from foretell.backends import Backend, ModelOptions, reading_model
from foretell.backends.torch.chosen import EXPORT, check_options, device_of, facts_of, log_trust
from foretell.backends.torch.run import DATATYPES, Arrange, BoundedRunner, ModuleRunner, TorchModel, leaves
from foretell.errors import Setup
from foretell.formats.torch import NotPlain, plain_copy
from foretell.tensors import Signature


def read_exported(path: Path, trust: bool) -> Any:
    """The ExportedProgram in a file. Raises Setup ``broken_model`` or ``untrusted_model``."""
    cure = "save it again with the release of torch that is installed here, or install the newer one that it was saved with"
    with reading_model(path, cure), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            archive: Any = plain_copy(path)
        except NotPlain as error:
            if not trust:
                raise Setup(
                    "untrusted_model",
                    f"{path} could run code when it is loaded: {error}. If you know who made the file, set `trust = true` in "
                    "[model] of pipeline.toml or ModelOptions(trust=True)",
                ) from error
            log_trust(path)
            archive = str(path)
        programs = _package.load_pt2(archive).exported_programs
        if "model" not in programs:
            raise ValueError(f"it holds {', '.join(programs) or 'no program'}, not 'model'")
        return programs["model"]


def load_exported(path: Path, options: ModelOptions) -> Backend:
    check_options(path, options, {})
    device = device_of(path, options.providers)
    program = read_exported(path, options.trust)
    with reading_model(path, f"{EXPORT}, with tensors as inputs and outputs"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if device.type != "cpu":
            program = move_to_device_pass(program, str(device))
        inputs, outputs = _nodes(program)
        copies = any(getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in program.graph.nodes)
        runner: Runner = ModuleRunner(program.module(), _arranger(program), [node.name for node in outputs], device, copies)
    rows = _has_rows(program, inputs, outputs) if options.rows is None else options.rows
    if rows:
        least, most = _bounds(program, inputs)
        if least > 2:  # 2 stands for any number: torch.export tells 1 from more where that matters
            raise Setup("broken_model", f"{path} takes at least {least} rows at a time: export it for any number from 1")
        runner = by_rows(str(path), runner, inputs, outputs)
        runner = BoundedRunner(runner, most) if most is not None else runner
    facts = facts_of("PyTorch exported program", path, program.state_dict.values(), device) | _operators(program)
    return TorchModel(runner, Signature(specs(inputs, rows), specs(outputs, rows), rows), facts, True)


def _operators(program: Any) -> dict[str, str]:
    """What the program calls, and what of it is not PyTorch's own, which a conversion lacks."""
    called = {node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)}
    names = sorted({str(target).removesuffix(".default") for target in called})
    special = [name for name in names if not name.startswith("aten.")]
    return {"operators": ", ".join(names)} | ({"elsewhere": f"other runtimes may lack {', '.join(special)}"} if special else {})


def _nodes(program: Any) -> tuple[list[Node], list[Node]]:
    """Inputs and outputs with all their axes. Outputs in a dict are named by its keys, others as the program has them."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    given = [spec.arg for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    inputs = [_node(arg.name, values[arg.name]) for arg in given if not hasattr(arg, "value")]
    answered = [spec.arg.name for spec in program.graph_signature.output_specs if spec.kind.name == "USER_OUTPUT"]
    answer = program.call_spec.out_spec.unflatten(answered)
    return inputs, [_node(path if isinstance(answer, Mapping) else name, values[name]) for path, name in leaves(answer)]


def _node(name: str, value: Any) -> Node:
    if not isinstance(value, torch.Tensor) or value.dtype not in DATATYPES:
        raise ValueError(f"{name!r} is {getattr(value, 'dtype', type(value).__name__)}, which is no tensor that is served here")
    return Node(name, DATATYPES[value.dtype], tuple(size if isinstance(size, int) else None for size in value.shape))


def _arranger(program: Any) -> Arrange:
    """Puts tensors where the program takes them, and the values that it was exported with where it takes none."""
    given = [spec.arg for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    fixed = [(hasattr(arg, "value"), getattr(arg, "value", None)) for arg in given]
    spec = program.call_spec.in_spec

    def arrange(tensors: Sequence[Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        left = iter(tensors)
        args, keywords = spec.unflatten([value if is_fixed else next(left) for is_fixed, value in fixed])
        return args, keywords

    return arrange


def _first_sizes(program: Any, names: Sequence[str]) -> set[str]:
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return {str(values[name].shape[0]) for name in names if values[name].shape}


def _has_rows(program: Any, inputs: Sequence[Node], outputs: Sequence[Node]) -> bool:
    """As for any model; and an open first axis of an output must be one of the inputs', not some other length."""
    answered = [spec.arg.name for spec in program.graph_signature.output_specs if spec.kind.name == "USER_OUTPUT"]
    taken = _first_sizes(program, [node.name for node in inputs])
    return is_by_rows(inputs, outputs) and _first_sizes(program, answered) <= taken


def _bounds(program: Any, inputs: Sequence[Node]) -> tuple[int, int | None]:
    """The least and the largest number of rows that the program was exported for."""
    sizes = _first_sizes(program, [node.name for node in inputs])
    ranges = [each for symbol, each in program.range_constraints.items() if str(symbol) in sizes]
    most = [int(str(each.upper)) for each in ranges if str(each.upper).isdigit()]
    return max((int(each.lower) for each in ranges), default=1), min(most, default=None)
