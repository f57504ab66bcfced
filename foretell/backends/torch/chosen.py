"""What a user chose for a model of PyTorch, and what is told of it."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from foretell.backends import ModelOptions
from foretell.errors import Setup
from foretell.plugins import did_you_mean
from foretell.tensors import Datatype, TensorSpec

EXPORT = "export it as `torch.export.save(torch.export.export(model, inputs, dynamic_shapes=...), 'model.pt2')`"
_DEVICES = ("cpu", "cuda", "xpu", "mps")
_log = logging.getLogger("foretell")


def check_options(path: Path, options: ModelOptions, known: Mapping[str, type]) -> None:
    for key, value in options.options.items():
        if key not in known:
            told = did_you_mean(key, list(known)) if known else ": remove it"
            raise Setup("wrong_setting", f"{path}: a model of this kind has no option {key!r}{told}")
        if not isinstance(value, known[key]):
            raise Setup("wrong_setting", f"{path}: option {key!r} should be a {known[key].__name__}, got {value!r}")


def table_of(options: ModelOptions, name: str) -> Mapping[str, Any]:
    table = options.options.get(name, {})
    return table if isinstance(table, Mapping) else {}


def declared_specs(options: ModelOptions, name: str) -> tuple[TensorSpec, ...]:
    declared = tuple(TensorSpec.parse(each, str(text)) for each, text in table_of(options, name).items())
    for spec in declared:
        if spec.dtype is Datatype.BYTES:
            raise Setup("wrong_setting", f"torch has no BYTES, which {name} gives {spec.name!r}: name a datatype of numbers")
    return declared


def device_of(path: Path, providers: Sequence[str]) -> Any:
    """The one device that was asked for, or the CPU. Raises Setup ``wrong_provider`` when it is not there."""
    if len(providers) > 1:
        text = "only a class with its weights in safetensors can place its parts on several devices"
        raise Setup("wrong_setting", f"{path}: {text}: name one in providers, as 'cuda:0'")
    name = providers[0] if providers else "cpu"
    try:
        device = torch.device(name)
        if device.type not in _DEVICES:
            raise ValueError(f"known are {', '.join(_DEVICES)}")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        text = f"{path} is to run on {name!r}, which is not there ({reason})"
        raise Setup("wrong_provider", f"{text}: install the torch that has it, or correct providers") from error
    return device


def facts_of(kind: str, path: Path, tensors: Iterable[Any], device: Any) -> dict[str, str]:
    numbers = list(tensors)
    return {
        "format": kind,
        "runtime": f"torch {torch.__version__}",
        "size": f"{path.stat().st_size:,} bytes",
        "parameters": f"{sum(tensor.numel() for tensor in numbers):,}",
        "provider": str(device),
        "threads": f"{torch.get_num_threads()}, of the whole process",
    }


def log_trust(path: Path) -> None:
    with path.open("rb") as file:
        _log.info("loading %s as a program, sha256 %s", path, hashlib.file_digest(file, "sha256").hexdigest())
