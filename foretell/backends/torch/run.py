"""Runs a module of PyTorch on arrays."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from foretell.axes import ClosedRunner, Runner
from foretell.tensors import Array, Arrays, Datatype, Signature

DATATYPES = {
    torch.bool: Datatype.BOOL,
    torch.uint8: Datatype.UINT8,
    torch.uint16: Datatype.UINT16,
    torch.uint32: Datatype.UINT32,
    torch.uint64: Datatype.UINT64,
    torch.int8: Datatype.INT8,
    torch.int16: Datatype.INT16,
    torch.int32: Datatype.INT32,
    torch.int64: Datatype.INT64,
    torch.float16: Datatype.FP16,
    torch.bfloat16: Datatype.BF16,
    torch.float32: Datatype.FP32,
    torch.float64: Datatype.FP64,
}
"""What PyTorch has of the datatypes that are served."""
_BF16 = Datatype.BF16.numpy

Arrange = Callable[[Sequence[Any]], tuple[Sequence[Any], Mapping[str, Any]]]


@dataclass(frozen=True)
class ModuleRunner:
    """A module that is given tensors on a device, arranged as it takes them. What may change its inputs is given copies."""

    module: Callable[..., Any]
    arrange: Arrange
    names: Sequence[str]
    device: Any
    copies: bool

    def forward(self, inputs: Arrays) -> Arrays:
        with torch.inference_mode():
            args, keywords = self.arrange([tensor_of(array, self.copies).to(self.device) for array in inputs.values()])
            return {name: array_of(leaf) for name, leaf in told(self.module(*args, **keywords), self.names)}


@dataclass(frozen=True)
class BoundedRunner:
    """A program that was exported for at most ``most`` rows: more are cut into chunks."""

    runner: Runner
    most: int

    def forward(self, inputs: Arrays) -> Arrays:
        count = len(next(iter(inputs.values())))
        if count <= self.most:
            return self.runner.forward(inputs)
        parts = [
            self.runner.forward({name: array[start : start + self.most] for name, array in inputs.items()})
            for start in range(0, count, self.most)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class TorchModel:
    """A module in inference mode. Thread-safe as far as the module's own code is: what is exported keeps no state."""

    def __init__(self, runner: Runner, signature: Signature, facts: Mapping[str, str], thread_safe: bool) -> None:
        self.signature = signature
        self.facts = facts
        self.thread_safe = thread_safe
        self._runner = runner

    def forward(self, inputs: Arrays) -> Arrays:
        return self._runner.forward(inputs)

    def close(self) -> None:
        self._runner = ClosedRunner()


def tensor_of(array: Array, copies: bool) -> Any:
    whole = np.array(array, order="C", copy=True) if copies or not array.flags.writeable else np.ascontiguousarray(array)
    if whole.dtype == _BF16:
        return torch.from_numpy(whole.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(whole)


def array_of(tensor: Any) -> Array:
    here = tensor.detach().to("cpu").contiguous()
    if here.dtype is torch.bfloat16:
        return np.asarray(here.view(torch.int16).numpy()).view(_BF16)
    array: Array = here.numpy()
    return array


def told(answer: Any, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The tensors of an answer by ``names``: the keys of a dict, and else in their order."""
    parts = list(leaves(answer))
    if isinstance(answer, Mapping):
        found = dict(parts)
        yield from ((name, found[name]) for name in names)
    else:
        yield from zip(names, (leaf for _, leaf in parts), strict=True)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What an answer is made of, with its keys and numbers joined by dots."""
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else None
    if inner is None:
        yield name, value
    else:
        for key, each in inner:
            yield from leaves(each, f"{name}.{key}" if name else str(key))
