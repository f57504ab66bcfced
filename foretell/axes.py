"""Inputs and outputs as a runtime tells them, with all their axes, and which of those is the axis of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foretell.errors import Setup, Unavailable
from foretell.tensors import Array, Arrays, Datatype, TensorSpec


@dataclass(frozen=True)
class Node:
    """One input or output of a model; ``dims`` holds the row axis too, None for any length."""

    name: str
    dtype: Datatype
    dims: tuple[int | None, ...]


class Runner(Protocol):
    """What runs whole arrays through a runtime, in the arrays' own form."""

    def forward(self, inputs: Arrays) -> Arrays: ...


@dataclass(frozen=True)
class FixedRowsRunner:
    """A model with a fixed number of rows: any number is cut into such chunks, and the last is filled with its last row."""

    runner: Runner
    rows: int

    def forward(self, inputs: Arrays) -> Arrays:
        count = len(next(iter(inputs.values())))
        chunks = [self._chunk(inputs, start) for start in range(0, count, self.rows)]
        answers = [self.runner.forward(chunk) for chunk in chunks]
        return {name: np.concatenate([answer[name] for answer in answers])[:count] for name in answers[0]}

    def _chunk(self, inputs: Arrays, start: int) -> Arrays:
        chunk = {name: array[start : start + self.rows] for name, array in inputs.items()}
        lack = self.rows - len(next(iter(chunk.values())))
        return {name: np.concatenate([array, *[array[-1:]] * lack]) for name, array in chunk.items()} if lack else chunk


@dataclass(frozen=True)
class ClosedRunner:
    """Stands where a runtime was."""

    def forward(self, inputs: Arrays) -> Arrays:
        raise Unavailable("not_ready", "the model is closed: load it again")


def is_by_rows(inputs: Sequence[Node], outputs: Sequence[Node]) -> bool:
    """Whether axis 0 is the row axis: everything has one, and all leave its length open, or all fix it at the same number."""
    if not inputs or not all(node.dims for node in [*inputs, *outputs]):
        return False
    taken = {node.dims[0] for node in inputs}
    return len(taken) == 1 and {node.dims[0] for node in outputs} <= taken | {None}


def by_rows(model: str, runner: Runner, inputs: Sequence[Node], outputs: Sequence[Node]) -> Runner:
    """The runner for any number of rows. Raises Setup when the model cannot have a row axis, whatever the options say."""
    scalars = [node.name for node in [*inputs, *outputs] if not node.dims]
    fixed = {node.dims[0] for node in inputs if node.dims} - {None}
    if scalars or len(fixed) > 1 or not inputs:
        why = (
            f"{scalars[0]!r} has no axis at all"
            if scalars
            else f"axis 0 of its inputs is {sorted(map(str, fixed)) or 'missing'}"
        )
        raise Setup("wrong_setting", f"{model} is said to take rows, but {why}: remove `rows = true`")
    return FixedRowsRunner(runner, fixed.pop() or 1) if fixed else runner


def measure(runner: Runner, inputs: Sequence[Node], outputs: Sequence[Node]) -> list[Node]:
    """Outputs without declared axes get as many as they have in one run on zeros, whose errors are the runtime's own."""
    if all(node.dims for node in outputs):
        return list(outputs)
    answers = runner.forward({node.name: zeros(node) for node in inputs})
    return [node if node.dims else Node(node.name, node.dtype, (None,) * answers[node.name].ndim) for node in outputs]


def zeros(node: Node) -> Array:
    """An array that fits the node, of length 1 wherever any length fits."""
    shape = tuple(1 if size is None else size for size in node.dims)
    return np.full(shape, b"", np.object_) if node.dtype is Datatype.BYTES else np.zeros(shape, node.dtype.numpy)


def specs(nodes: Sequence[Node], rows: bool, text: bool = True) -> tuple[TensorSpec, ...]:
    """The nodes as a signature has them: without the axis of rows, if there is one. ``text``: BYTES are texts, in UTF-8."""
    return tuple(
        TensorSpec(node.name, node.dtype, node.dims[rows:], text=text and node.dtype is Datatype.BYTES) for node in nodes
    )
