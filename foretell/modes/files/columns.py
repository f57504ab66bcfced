"""Which columns of a table fill which input of a pipeline.

For an input ``x``, in this order:

1. the column ``x``, or the one that ``map`` names: a number, text or bytes for a scalar, a list for a tensor;
2. for a tensor of n elements, the columns ``x_0`` to ``x_{n-1}``, or a list of column names in ``map``: ``a,b,c``;
3. if it is the only input and the table has exactly n columns: all of them, in the table's order, which the log says.

Columns that no input needs are not read.
"""

import difflib
import logging
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from foretell.errors import Setup
from foretell.modes.files.rows import STANDARD, Source
from foretell.plugins import did_you_mean
from foretell.tensors import Signature, TensorSpec

MOST_SHOWN = 12
LONGEST_SHOWN = 60
log = logging.getLogger("foretell")


@dataclass(frozen=True)
class Binding:
    """One input and the columns that fill it: one that holds the whole of it, or one for each element."""

    spec: TensorSpec
    columns: tuple[str, ...]

    @property
    def side_by_side(self) -> bool:
        return len(self.columns) > 1


def bind(source: Source, columns: Sequence[str], more: Iterable[str] = ()) -> tuple[Binding, ...]:
    """A binding for each input; ``more`` are columns that the file has from its folders.

    Raises Setup ``missing_column`` naming the input, the column and the nearest that exists."""
    _check_map(source.map, source.signature)
    alone = len(source.signature.inputs) == 1
    named = [*columns, *(name for name in more if name not in columns)]
    bindings = tuple(_bind_one(source, spec, columns, named, alone) for spec in source.signature.inputs)
    for name in needed(bindings):
        if list(columns).count(name) > 1:
            raise Setup("missing_column", f"{source.path} has two columns named {name!r}: rename one of them")
    return bindings


def needed(bindings: Sequence[Binding]) -> list[str]:
    """The columns to read, each once."""
    return list(dict.fromkeys(name for binding in bindings for name in binding.columns))


def _bind_one(source: Source, spec: TensorSpec, own: Sequence[str], columns: Sequence[str], alone: bool) -> Binding:
    """``own`` are the columns of the file alone: only those may be taken by their place."""
    mapped = source.map.get(spec.name)
    name = mapped or spec.name
    if name in columns:
        return Binding(spec, (name,))
    size = None if None in spec.shape else math.prod(size or 0 for size in spec.shape)
    listed = [part.strip() for part in name.split(",")]
    if mapped and len(listed) > 1:
        return Binding(spec, _listed(spec, listed, columns, size))
    numbered = tuple(f"{name}_{i}" for i in range(size or 0))
    if numbered and set(numbered) <= set(columns):
        return Binding(spec, numbered)
    if alone and not mapped and size is not None and len(own) == size:
        _say_by_place(source, spec, own)
        return Binding(spec, tuple(own))
    raise Setup("missing_column", _refusal(spec, name, columns, size, alone))


def _say_by_place(source: Source, spec: TensorSpec, columns: Sequence[str]) -> None:
    """Nothing but their number speaks for these columns: in another order they would be taken as gladly. Told once a run."""
    if source.quiet or (source.shard is not None and source.shard.index):
        return
    rows = "standard input" if source.path == STANDARD else source.path.name
    taken = f"the only column of {rows}, {columns[0]!r}"
    if len(columns) > 1:
        taken = f"the {len(columns)} columns of {rows} in the order of the file"
    cure = "name them in a table.columns step of pipeline.toml to have them found by name"
    log.warning("input %r takes %s: %s", spec.name, taken, cure)


def _listed(spec: TensorSpec, listed: Sequence[str], columns: Sequence[str], size: int | None) -> tuple[str, ...]:
    for name in listed:
        if name not in columns:
            raise Setup("missing_column", f"there is no column {name!r} for input {spec}{nearest(name, columns)}")
    if size != len(listed):
        raise Setup(
            "missing_column", f"input {spec} is mapped to {len(listed)} columns, it takes {'a list' if size is None else size}"
        )
    return tuple(listed)


def _refusal(spec: TensorSpec, name: str, columns: Sequence[str], size: int | None, alone: bool) -> str:
    tried = f"no column {name!r}"
    another = f"--map {shlex.quote(f'{spec.name}=COLUMN')}"
    cure = f"To use another column: {another}"
    if size is not None and size > 1:
        tried += f" and no columns {name}_0 to {name}_{size - 1}"
        tried += f", and its {len(columns)} columns are not the {size} that the input takes" if alone else ""
        cure = (
            f"To have {size} columns found by name, list them: --map {shlex.quote(f'{spec.name}=a,b,c')}, or in a "
            f"table.columns step of pipeline.toml; to use one that holds a list: {another}"
        )
    return f"input {spec} cannot be filled: the rows have {tried}{nearest(name, columns)} {cure}"


def nearest(name: str, columns: Sequence[str]) -> str:
    """``": did you mean 'x'?"``, else the first columns in their own order."""
    close = difflib.get_close_matches(name, columns, n=1, cutoff=0.6)
    if close:
        return f": did you mean {close[0]!r}?"
    shown = ", ".join(repr(name[:LONGEST_SHOWN]) for name in columns[:MOST_SHOWN]) + (
        ", …" if len(columns) > MOST_SHOWN else ""
    )
    return f": they have {shown or 'no columns'}."


def _check_map(names: Mapping[str, str], signature: Signature) -> None:
    inputs = [spec.name for spec in signature.inputs]
    for name in names:
        if name not in inputs:
            raise Setup("missing_column", f"--map {name}=…: there is no input {name!r}{did_you_mean(name, inputs)}")
