"""Several models as one: what one gives is what the next takes, in the order that the data asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foretell.backends import Backend, describe, is_thread_safe
from foretell.errors import Setup
from foretell.tensors import Arrays, Signature, TensorSpec

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Link:
    """One model of a chain. The maps go from the model's own names to the chain's; ``where`` names the link in refusals."""

    where: str
    model: Backend
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class ChainModel:
    """Links that are in order, as a backend; it owns their models."""

    def __init__(self, links: Sequence[Link], signature: Signature) -> None:
        self.signature = signature
        self.links = tuple(links)
        self.thread_safe = all(is_thread_safe(link.model) for link in links)
        self.parts = tuple(link.model for link in links)
        self.facts = {"format": "chain", "models": str(len(links)), **_quantization(links)}

    def forward(self, inputs: Arrays) -> Arrays:
        tensors = dict(inputs)
        for link in self.links:
            answers = link.model.forward({own: tensors[name] for own, name in link.inputs.items()})
            tensors.update({name: answers[own] for own, name in link.outputs.items()})
        return {spec.name: tensors[spec.name] for spec in self.signature.outputs}

    def close(self) -> None:
        for link in self.links:
            link.model.close()


def chain(links: Sequence[Link], signature: Signature, where: str) -> ChainModel:
    """The links as one model of that signature, each after those that make what it takes.

    Raises Setup ``broken_config``: for a tensor that nothing makes, two make, or a circle makes; for a name that a model does
    not have; and where datatype, shape or row axis of the two ends of a tensor differ.
    """
    made = {spec.name: _Whole.of(spec, signature.rows) for spec in signature.inputs}
    for link in links:
        if signature.rows and not link.model.signature.rows:
            raise Setup("broken_config", f"{link.where}: the chain takes any number of rows, but this model has no row axis")
        _check_names(link)
        for own, name in link.outputs.items():
            if name in made:
                raise Setup("broken_config", f"{link.where}: tensor {name!r} is made a second time: rename one")
            made[name] = _Whole.of(_spec(link.model.signature.outputs, own), link.model.signature.rows)
    for link in links:
        for own, name in link.inputs.items():
            _check_ends(link.where, name, made, _Whole.of(_spec(link.model.signature.inputs, own), link.model.signature.rows))
    for spec in signature.outputs:
        _check_ends(where, spec.name, made, _Whole.of(spec, signature.rows))
    return ChainModel(_in_order(links, {spec.name for spec in signature.inputs}), signature)


@dataclass(frozen=True)
class _Whole:
    """Datatype and whole shape of a tensor, the row axis included."""

    dtype: str
    shape: Shape

    @classmethod
    def of(cls, spec: TensorSpec, rows: bool) -> "_Whole":
        return cls(str(spec.dtype), (None, *spec.shape) if rows else spec.shape)

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('?' if size is None else str(size) for size in self.shape)}]"

    def could_be(self, other: "_Whole") -> bool:
        """Whether the same datatype and number of axes, and no two lengths that are known differ."""
        if self.dtype != other.dtype or len(self.shape) != len(other.shape):
            return False
        return all(a == b or a is None or b is None for a, b in zip(self.shape, other.shape, strict=True))


def _quantization(links: Sequence[Link]) -> dict[str, str]:
    """The word of the links about it, if any has one: it is true of the chain too."""
    said = {describe(link.model).get("quantization", "") for link in links} - {""}
    return {"quantization": "; ".join(sorted(said))} if said else {}


def _check_names(link: Link) -> None:
    """That all inputs of the model are mapped, and nothing that it does not have; outputs may be left out."""
    takes, gives = (tuple(spec.name for spec in specs) for specs in (link.model.signature.inputs, link.model.signature.outputs))
    if set(link.inputs) != set(takes):
        raise Setup(
            "broken_config", f"{link.where}: the model takes {', '.join(takes)}, but mapped are {', '.join(link.inputs)}"
        )
    unknown = sorted(set(link.outputs) - set(gives))
    if unknown or not link.outputs:
        mapped = ", ".join(link.outputs) or "none"
        raise Setup("broken_config", f"{link.where}: the model gives {', '.join(gives)}, but mapped are {mapped}")


def _check_ends(where: str, name: str, made: Mapping[str, _Whole], wanted: _Whole) -> None:
    if name not in made:
        raise Setup("broken_config", f"{where}: nothing makes the tensor {name!r}: there are {', '.join(made)}")
    if not made[name].could_be(wanted):
        raise Setup("broken_config", f"{where}: tensor {name!r} is made as {made[name]}, but taken as {wanted}")


def _spec(specs: Sequence[TensorSpec], name: str) -> TensorSpec:
    return next(spec for spec in specs if spec.name == name)


def _in_order(links: Sequence[Link], known: set[str]) -> list[Link]:
    """Every link after those that make what it takes."""
    ordered: list[Link] = []
    todo = list(links)
    while todo:
        ready = [link for link in todo if known.issuperset(link.inputs.values())]
        if not ready:
            raise Setup("broken_config", f"{todo[0].where}: what this takes depends on what it gives: there is a circle")
        todo = [link for link in todo if not known.issuperset(link.inputs.values())]
        known = known.union(*(link.outputs.values() for link in ready))
        ordered += ready
    return ordered
