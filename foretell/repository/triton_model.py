"""Loads what a config.pbtxt describes: a model under the signature that is declared there, or an ensemble of such models."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from foretell.backends import Backend, ModelOptions, describe, is_thread_safe, load_backend
from foretell.backends.chain import Link, chain
from foretell.errors import Setup
from foretell.repository.model_folder import ModelSource
from foretell.repository.triton_config import TritonConfig, TritonTensor
from foretell.storage import check_inside, read_small
from foretell.tensors import Array, Arrays, Signature, TensorSpec, show_shape

log = logging.getLogger("foretell")
Shape = tuple[int | None, ...]
Sizes = Mapping[str, tuple[int, ...]]
MOST_LABEL_BYTES = 16 * 2**20


class DeclaredModel:
    """A backend that shows some outputs of another, some tensors in other shapes.

    ``taken`` are the shapes of a row in which the model takes inputs, ``given`` those in which callers are given outputs.
    """

    def __init__(self, model: Backend, signature: Signature, taken: Sizes, given: Sizes) -> None:
        self.signature = signature
        self.thread_safe = is_thread_safe(model)
        self.facts = describe(model)
        self.parts = (model,)
        self._model = model
        self._taken = taken
        self._given = given

    def forward(self, inputs: Arrays) -> Arrays:
        answers = self._model.forward({name: self._shaped(array, self._taken.get(name)) for name, array in inputs.items()})
        return {spec.name: self._shaped(answers[spec.name], self._given.get(spec.name)) for spec in self.signature.outputs}

    def close(self) -> None:
        self._model.close()

    def _shaped(self, array: Array, shape: tuple[int, ...] | None) -> Array:
        return array if shape is None else array.reshape((len(array), *shape) if self.signature.rows else shape)


def load_triton(source: ModelSource, config: TritonConfig, given: ModelOptions) -> Backend:
    """The model or the ensemble of a config.pbtxt, checked against what it declares. What has no effect here is logged.

    Raises Setup ``broken_config``, naming file, line, tensor, expected and got; and what loading an ONNX model raises.
    """
    for note in config.notes:
        log.info("%s: %s", config.file, note)
    if config.steps:
        return _load_ensemble(source, config, given)
    try:
        model = load_backend(source.path, source.config.options_over(given), source.config.model.backend)
    except Setup as error:
        if error.code != "wrong_setting":
            raise
        text = f"{config.file}: max_batch_size is {config.most_rows}, but {error.message}"
        raise Setup("broken_config", text.replace("remove `rows = true`", "write max_batch_size: 0, and whole dims")) from error
    try:
        return _fit(model, config)
    except Setup:
        model.close()
        raise


def read_labels(source: ModelSource) -> Mapping[str, Sequence[str]]:
    """The names of an output's classes, one a line of its ``label_filename``; an ensemble has those of its members too.

    Raises Setup: ``broken_config`` or ``outside_folder``.
    """
    if source.triton is None:
        return {}
    labels: dict[str, Sequence[str]] = {}
    for step, member in zip(source.triton.steps, source.members, strict=True):
        theirs = read_labels(member)
        labels.update({name: theirs[own] for own, name in step.outputs.items() if own in theirs})
    own = [tensor for tensor in source.triton.outputs if tensor.labels_file]
    return labels | {tensor.name: _read_lines(source.folder, tensor, source.triton) for tensor in own}


def _load_ensemble(source: ModelSource, config: TritonConfig, given: ModelOptions) -> Backend:
    links: list[Link] = []
    try:
        for step, member in zip(config.steps, source.members, strict=True):
            where = f"{config.file}, line {step.line}, step {step.model!r}"
            links.append(Link(where, _load_member(member, given), step.inputs, step.outputs))
        signature = Signature(_declared(config.inputs, config), _declared(config.outputs, config), bool(config.rows))
        return chain(links, signature, str(config.file))
    except Setup:
        for link in links:
            link.model.close()
        raise


def _load_member(source: ModelSource, given: ModelOptions) -> Backend:
    if source.triton is not None:
        return load_triton(source, source.triton, given)
    return load_backend(source.path, source.config.options_over(given), source.config.model.backend)


def _declared(tensors: Sequence[TritonTensor], config: TritonConfig) -> tuple[TensorSpec, ...]:
    """What an ensemble declares is all that is known of its tensors, so it must be there, and plain."""
    if not tensors or any(tensor.inner != tensor.dims for tensor in tensors):
        raise Setup("broken_config", f"{config.file}: an ensemble lists its input and output, and reshapes none of them")
    return tuple(TensorSpec(tensor.name, tensor.dtype, tensor.dims) for tensor in tensors)


def _read_lines(folder: Path, tensor: TritonTensor, config: TritonConfig) -> list[str]:
    where, path = f"{config.file}, line {tensor.line}: label_filename {tensor.labels_file[:255]!r}", folder / tensor.labels_file
    check_inside(path, folder)
    try:
        return [line.strip() for line in read_small(path, MOST_LABEL_BYTES).decode("utf-8").splitlines()]
    except OSError as error:
        raise Setup("broken_config", f"{where} cannot be read in {folder} ({error.strerror}): correct its name") from error
    except UnicodeDecodeError as error:
        raise Setup("broken_config", f"{where} is not UTF-8: write one label a line as UTF-8 text") from error
    except ValueError as error:
        raise Setup("broken_config", f"{where} is no list of labels, {error}: it takes one label a line") from error


def _fit(model: Backend, config: TritonConfig) -> Backend:
    """The model as its config.pbtxt declares it. What it leaves out is as the model has it; of outputs it may list some.

    Raises Setup ``broken_config``, naming file, line, tensor, expected and got.
    """
    own = model.signature
    for tensor in (*config.inputs, *config.outputs):
        specs = own.inputs if tensor in config.inputs else own.outputs
        _check(tensor, {spec.name: spec for spec in specs}, config)
    listed = {tensor.name for tensor in config.inputs}
    for spec in own.inputs:
        if config.inputs and spec.name not in listed:
            raise Setup("broken_config", f"{config.file} lists no input {spec.name!r}, but the model takes {spec}: add it")
    signature = Signature(_specs(config.inputs, own.inputs), _specs(config.outputs, own.outputs), own.rows)
    taken = {tensor.name: _whole(tensor.inner) for tensor in config.inputs if tensor.inner != tensor.dims}
    given = {tensor.name: _whole(tensor.dims) for tensor in config.outputs if tensor.inner != tensor.dims}
    return model if signature == own else DeclaredModel(model, signature, taken, given)


def _check(tensor: TritonTensor, specs: Mapping[str, TensorSpec], config: TritonConfig) -> None:
    where = f"{config.file}, line {tensor.line}"
    spec = specs.get(tensor.name)
    if spec is None:
        raise Setup("broken_config", f"{where}: the model has no tensor {tensor.name!r} there, it has {', '.join(specs)}")
    if spec.dtype is not tensor.dtype:
        raise Setup("broken_config", f"{where}: {tensor.name!r} is declared as {tensor.dtype}, but the model has {spec.dtype}")
    if not _narrows(tensor.inner, spec.shape):
        declared, real = show_shape(tensor.inner), show_shape(spec.shape)
        axis = " after the row axis" if config.rows else ""
        raise Setup("broken_config", f"{where}: {tensor.name!r} is declared as {declared}{axis}, but the model has {real}")


def _narrows(declared: Shape, real: Shape) -> bool:
    """Whether each size is as the model has it, or stands where the model takes any."""
    return len(declared) == len(real) and all(own in {None, size} for size, own in zip(declared, real, strict=True))


def _specs(tensors: Sequence[TritonTensor], own: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    specs = {spec.name: spec for spec in own}
    return tuple(replace(specs[tensor.name], shape=tensor.dims) for tensor in tensors) or tuple(own)


def _whole(shape: Shape) -> tuple[int, ...]:
    return tuple(size or 1 for size in shape)
