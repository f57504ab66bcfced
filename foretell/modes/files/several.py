"""Several models over one read: they are asked one after the other, and their answers stand side by side."""

from collections.abc import Mapping

from foretell.backends import Backend, is_thread_safe
from foretell.errors import Setup
from foretell.pipeline import Pipeline
from foretell.tensors import Arrays, Signature, TensorSpec


class Several:
    """Pipelines by name, as a model of which they are parts.

    Inputs of one name and kind are one input; where kinds differ the input is called ``MODEL.INPUT``. Outputs are called
    ``MODEL.OUTPUT``.
    """

    def __init__(self, pipelines: Mapping[str, Pipeline]) -> None:
        self.pipelines = dict(pipelines)
        self.thread_safe = all(is_thread_safe(pipeline.model) for pipeline in self.pipelines.values())
        self.names = {name: _input_names(name, self.pipelines) for name in self.pipelines}
        inputs = {
            self.names[name][spec.name]: TensorSpec(self.names[name][spec.name], spec.dtype, spec.shape, spec.text)
            for name, pipeline in self.pipelines.items()
            for spec in pipeline.signature.inputs
        }
        outputs = [
            TensorSpec(f"{name}.{spec.name}", spec.dtype, spec.shape, spec.text)
            for name, pipeline in self.pipelines.items()
            for spec in pipeline.signature.outputs
        ]
        self.signature = Signature(tuple(inputs.values()), tuple(outputs))

    def forward(self, inputs: Arrays) -> Arrays:
        answers: dict[str, Arrays] = {}
        for name, pipeline in self.pipelines.items():
            answers[name] = pipeline({own: inputs[shared] for own, shared in self.names[name].items()})
        return {f"{name}.{output}": array for name, answer in answers.items() for output, array in answer.items()}

    def close(self) -> None:
        for pipeline in self.pipelines.values():
            pipeline.close()


def combine(pipelines: Mapping[str, Pipeline]) -> Pipeline:
    """One pipeline of one or several. Raises Setup ``broken_pipeline`` for a model without a row axis among several."""
    if len(pipelines) == 1:
        return next(iter(pipelines.values()))
    for name, pipeline in pipelines.items():
        if not pipeline.signature.rows:
            text = f"model {name!r} takes no rows, but one input at a time: run it alone"
            raise Setup("broken_pipeline", text)
    model: Backend = Several(pipelines)
    return Pipeline(model)


def _input_names(name: str, pipelines: Mapping[str, Pipeline]) -> dict[str, str]:
    """What each input of one model is called among all."""
    kinds: dict[str, set[TensorSpec]] = {}
    for pipeline in pipelines.values():
        for spec in pipeline.signature.inputs:
            kinds.setdefault(spec.name, set()).add(spec)
    own = [spec.name for spec in pipelines[name].signature.inputs]
    return {each: each if len(kinds[each]) == 1 else f"{name}.{each}" for each in own}
