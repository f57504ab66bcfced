"""validate -> preprocess -> forward -> postprocess: defined once, and what every mode runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from foretell.backends import Backend
from foretell.errors import Broken, ForetellError, Invalid, Setup
from foretell.steps import Function, Specs, Step, step_name
from foretell.tensors import Array, Arrays, Datatype, Signature, TensorSpec, cast

_ENCODED = np.frompyfunc(lambda item: item.encode() if isinstance(item, str) else item, 1, 1)


class Pipeline:
    """A model with its steps. Calling it is the reference that every mode must equal.

    ``signature`` is what a client sees: derived from the model's signature backwards through ``preprocess`` and
    forwards through ``postprocess``. A plain function may stand in for a step. Raises Setup ``broken_pipeline`` when the
    steps and the model do not fit together. ``labels`` are the names of an output's classes, by output: clients that ask for a
    classification are told them.
    """

    def __init__(
        self,
        model: Backend,
        preprocess: Iterable[Step | Callable[[Arrays], Arrays]] = (),
        postprocess: Iterable[Step | Callable[[Arrays], Arrays]] = (),
        labels: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.model = model
        self.labels = dict(labels or {})
        self.preprocess = tuple(map(_as_step, preprocess))
        self.postprocess = tuple(map(_as_step, postprocess))
        self.slow = any(step.slow for step in self.preprocess + self.postprocess)  # whether any must not run on an event loop
        self.signature = _public_signature(model.signature, self.preprocess, self.postprocess)

    def prepare(self, inputs: Arrays) -> Arrays:
        """Validate and preprocess one caller's inputs into what the model takes. Raises Invalid."""
        arrays = self.signature.conform(inputs)
        if not self.preprocess:
            return arrays
        return self._fit_model(_run(self.preprocess, arrays))

    def finish(self, outputs: Arrays) -> Arrays:
        """Postprocess one caller's share of the model's outputs."""
        return _run(self.postprocess, outputs) if self.postprocess else outputs

    def __call__(self, inputs: object) -> Arrays:
        """The answer to one caller. Lists may stand for arrays, and with one input its bare value for the mapping."""
        features = self.prepare(_as_arrays(inputs, self.signature))
        try:
            outputs = self.model.forward(features)
        except ForetellError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise Broken("model_failed", "the model raised an error on this input") from error
        return self.finish(outputs)

    def close(self) -> None:
        """Free what the model holds. Harmless when it holds nothing, or is closed already."""
        close = getattr(self.model, "close", None)  # a user's own class may have nothing to close
        if close is not None:
            close()

    def _fit_model(self, features: Arrays) -> Arrays:
        try:
            return self.model.signature.conform(features)
        except Invalid as error:
            raise Invalid(error.code, f"after preprocessing, {error.message}", **error.details) from error


def _as_step(step: Step | Callable[[Arrays], Arrays]) -> Step:
    return step if isinstance(step, Step) else Function(step)


def _run(steps: Sequence[Step], arrays: Arrays) -> Arrays:
    for step in steps:
        try:
            arrays = step(arrays)
        except ForetellError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise Broken("step_failed", "a step of the pipeline raised an error on this input") from error
        if not isinstance(arrays, Mapping):
            raise Broken("step_failed", f"a step of the pipeline gave {type(arrays).__name__}, not arrays by name")
    return arrays


def _as_arrays(inputs: object, signature: Signature) -> Arrays:
    """What a Python caller gave, as arrays by name; lists are read as the datatype that the input has. Raises Invalid."""
    if not isinstance(inputs, Mapping):
        if len(signature.inputs) != 1:
            names = ", ".join(spec.name for spec in signature.inputs)
            raise Invalid("missing_input", f"this pipeline takes {names}: give a mapping of these names to arrays")
        inputs = {signature.inputs[0].name: inputs}
    specs = {spec.name: spec for spec in signature.inputs}
    return {name: _as_array(value, specs.get(name), name) for name, value in inputs.items()}


def _as_array(value: object, spec: TensorSpec | None, name: str) -> Array:
    if isinstance(value, np.ndarray) or spec is None:
        return np.asarray(value)
    try:
        if spec.dtype is Datatype.BYTES:
            encoded: Array = _ENCODED(np.array(value, dtype=object))
            return encoded
        return cast(np.array(value), spec.dtype, name, rounding=True)
    except ValueError as error:
        raise Invalid(
            "wrong_shape", f"the rows of input {name!r} differ in shape: the model takes {spec}", input=name
        ) from error


def _public_signature(model: Signature, before: Sequence[Step], after: Sequence[Step]) -> Signature:
    wanted: Specs = {spec.name: spec for spec in model.inputs}
    for place in reversed(range(len(before))):
        wanted = _derive(before[place].takes, wanted, f"preprocess number {place + 1}")
    given = wanted
    for place, step in enumerate(before, 1):
        given = _derive(step.gives, given, f"preprocess number {place}")
    _check_fit(model.inputs, given, before)
    outputs: Specs = {spec.name: spec for spec in model.outputs}
    for place, step in enumerate(after, 1):
        outputs = _derive(step.gives, outputs, f"postprocess number {place}")
    return Signature(tuple(wanted.values()), tuple(outputs.values()), model.rows)


def _derive(derive: Callable[[Specs], Specs], specs: Specs, where: str) -> Specs:
    """What a step takes or gives; a refusal says which step it is."""
    try:
        return derive(specs)
    except Setup as error:
        raise Setup(error.code, f"{where}: {error.message}", **error.details) from error


def _name_of(step: Step) -> str:
    return getattr(step.call, "__name__", "a function") if isinstance(step, Function) else repr(step_name(step))


def _check_fit(wanted: Sequence[TensorSpec], given: Specs, before: Sequence[Step]) -> None:
    """That what the steps before the model give is what the model takes, no less and no more."""
    gives = ", ".join(map(str, given.values())) or "nothing"
    takes = ", ".join(map(str, wanted))
    if set(given) != {spec.name for spec in wanted}:
        raise Setup("broken_pipeline", f"the model takes {takes}, but its steps give {gives}: {_cure(wanted, before)}")
    for spec in wanted:
        if not _could_be(given[spec.name], spec):
            cure = _cure(wanted, before)
            raise Setup("broken_pipeline", f"the model takes {spec}, but its steps give {gives}: {cure}")


def _cure(inputs: Sequence[TensorSpec], before: Sequence[Step]) -> str:
    """Which step to correct: the last that does not give what is taken after it, whatever comes in."""
    wanted: Specs = {spec.name: spec for spec in inputs}
    for place in reversed(range(len(before))):
        step, after = before[place], wanted
        wanted = step.takes(after)
        given = _derive(step.gives, wanted, f"preprocess number {place + 1}")
        if set(given) != set(after) or not all(_could_be(given[name], spec) for name, spec in after.items()):
            return f"correct preprocess number {place + 1}, {_name_of(step)}, or add a step after it"
    return "correct or add a step"


def _could_be(got: TensorSpec, spec: TensorSpec) -> bool:
    """Whether the same datatype and number of axes, and no two lengths that are known differ."""
    if got.dtype is not spec.dtype or len(got.shape) != len(spec.shape):
        return False
    return all(a == b or a is None or b is None for a, b in zip(got.shape, spec.shape, strict=True))
