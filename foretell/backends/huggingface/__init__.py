"""Text encoders as Hugging Face lays them out: a folder with a tokenizer, a configuration and an ONNX model.

https://huggingface.co/docs/optimum-onnx/onnx/usage_guides/export_a_model writes such folders.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from foretell.backends import Backend, ModelOptions, describe, is_thread_safe, load_backend, reading_model
from foretell.backends.huggingface.folder import Folder, check_vocabulary, max_length, names_of, pad_of, task_of, unfit
from foretell.backends.huggingface.heads import Embedding, Encoded, Head, TextClasses, TextScore, TokenClasses
from foretell.backends.huggingface.tokens import FILLED, Tokenizer, read_rules
from foretell.errors import Setup
from foretell.plugins import did_you_mean
from foretell.storage import check_inside
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

INPUT = "text"
TASKS = ("embedding", "text-classification", "token-classification")
ENCODERS = ("model.onnx", "onnx/model.onnx")
_OPTIONS = {"task": str, "file": str, "max_length": int, "pooling": str, "normalize": bool}


class TextEncoder:
    """Texts -> tokens -> the encoder -> answers."""

    def __init__(self, tokenizer: "Tokenizer", encoder: Backend, output: str, head: Head, facts: Mapping[str, str]) -> None:
        self.signature = Signature((TensorSpec(INPUT, Datatype.BYTES, (), text=True),), head.outputs)
        self.facts = facts
        self.thread_safe = is_thread_safe(encoder)
        self.parts = (encoder,)
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._output = output
        self._head = head

    def forward(self, inputs: Arrays) -> Arrays:
        texts = self._tokenizer.encode(inputs[INPUT])
        given = self._encoder.forward(self._tokenizer.tensors(texts))
        return self._head(given[self._output], texts)

    def close(self) -> None:
        self._encoder.close()


def load(source: str, options: ModelOptions) -> Backend:
    """The encoder in a folder, with its tokenizer.

    ``options.options``: ``task`` (one of TASKS; else by ``architectures`` of config.json), ``file`` of the encoder,
    ``max_length`` in tokens, ``pooling`` ("mean" or "cls") and ``normalize`` of embeddings. Raises Setup ``broken_model``,
    ``missing_file``, ``outside_folder``, ``wrong_setting``, or what the encoder is refused with.
    """
    path = Path(source)
    chosen = _options(path, options.options)
    folder = Folder.read(path)
    rules = read_rules(path)
    encoder = load_backend(_encoder_file(path, chosen), replace(options, options={}), backend="onnx")
    try:
        return _assemble(folder, chosen, rules, encoder)
    except BaseException:
        encoder.close()
        raise


def _assemble(folder: Folder, chosen: Mapping[str, Any], rules: Any, encoder: Backend) -> Backend:
    fixed = _check_inputs(folder, encoder.signature)
    task = chosen.get("task") or task_of(folder.config)
    spec = _output(folder, encoder.signature, task)
    head = _head(folder, chosen, task, spec)
    length = max_length(folder, chosen, rules, fixed)
    check_vocabulary(folder, rules)
    tokenizer = Tokenizer(rules, encoder.signature.inputs, length, pad_of(folder, rules), fixed)
    _try(folder, tokenizer, encoder, max(rules.get_vocab(with_added_tokens=True).values(), default=0), length)
    facts = {
        **describe(encoder),
        "format": "Hugging Face folder",
        "tokenizer": f"tokenizers {tokenizers.__version__}, {rules.get_vocab_size():,} tokens",
        "task": task,
        "max_length": f"{length} tokens",
    }
    return TextEncoder(tokenizer, encoder, spec.name, head, facts)


def _options(path: Path, given: Mapping[str, object]) -> Mapping[str, Any]:
    for key, value in given.items():
        if key not in _OPTIONS:
            raise Setup(
                "wrong_setting", f"{path}: a Hugging Face folder has no option {key!r}{did_you_mean(key, list(_OPTIONS))}"
            )
        if type(value) is not _OPTIONS[key] or (key == "max_length" and isinstance(value, int) and value < 1):
            raise Setup("wrong_setting", f"{path}: option {key!r} should be a {_OPTIONS[key].__name__}, got {value!r}")
    for key, known in (("task", TASKS), ("pooling", ("mean", "cls"))):
        if key in given and given[key] not in known:
            raise Setup(
                "wrong_setting", f"{path}: there is no {key} {given[key]!r}{did_you_mean(str(given[key]), list(known))}"
            )
    return given


def _encoder_file(path: Path, chosen: Mapping[str, Any]) -> Path:
    names = (str(chosen["file"]),) if "file" in chosen else ENCODERS
    for name in names:
        if (path / name).is_file():
            check_inside(path / name, path)
            return path / name
    raise Setup(
        "missing_file",
        f"there is no {' or '.join(names)} in {path}: export the model to ONNX, as with "
        f"`optimum-cli export onnx --model NAME {path}`, or name another in [model.options] file",
    )


def _check_inputs(folder: Folder, signature: Signature) -> int | None:
    """That the tokenizer can fill every input. The number of tokens, if the graph fixes it."""
    for spec in signature.inputs:
        if spec.name not in FILLED or not spec.dtype.is_integer or len(spec.shape) != 1 or not signature.rows:
            raise unfit(
                folder,
                f"its encoder takes {spec}, and a tokenizer fills {', '.join(FILLED)} with numbers [tokens] a row: "
                "export the encoder alone, with its rows and tokens of any number",
            )
    if "input_ids" not in {spec.name for spec in signature.inputs}:
        raise unfit(folder, "its encoder takes no input_ids: export it with them")
    return signature.inputs[0].shape[0]


def _output(folder: Folder, signature: Signature, task: str) -> TensorSpec:
    """The output to read: ``logits``, or the vectors of the tokens; or the only one that has as many axes."""
    preferred = ("sentence_embedding", "last_hidden_state", "token_embeddings") if task == "embedding" else ("logits",)
    axes = {"embedding": (1, 2), "text-classification": (1,), "token-classification": (2,)}[task]
    fitting = {spec.name: spec for spec in signature.outputs if len(spec.shape) in axes and spec.dtype.is_float}
    for name in preferred:
        if name in fitting:
            return fitting[name]
    if len(fitting) != 1:
        given = ", ".join(map(str, signature.outputs))
        raise unfit(folder, f"its encoder gives {given}, none of which is plainly that of {task}: correct [model.options] task")
    return next(iter(fitting.values()))


def _head(folder: Folder, chosen: Mapping[str, Any], task: str, spec: TensorSpec) -> Head:
    if task == "embedding":
        return _embedding(folder, chosen, spec)
    names = names_of(folder, spec.shape[-1])
    if task == "token-classification":
        return TokenClasses(names)
    kind = folder.config.get("problem_type")
    if kind == "regression" or len(names) == 1:
        if len(names) > 1:
            raise unfit(
                folder, f"its problem_type is regression, but its encoder gives {len(names)} numbers: correct config.json"
            )
        return TextScore()
    encoded = np.empty(len(names), np.object_)
    encoded[:] = [name.encode() for name in names]
    return TextClasses(encoded, kind == "multi_label_classification")


def _embedding(folder: Folder, chosen: Mapping[str, Any], spec: TensorSpec) -> Embedding:
    """By the options, else by what sentence-transformers wrote beside the model, else the plain mean."""
    modes = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    said = [key for key, value in folder.pooling.items() if key.startswith("pooling_mode_") and value is True]
    if len(spec.shape) == 2 and "pooling" not in chosen and said and (len(said) > 1 or said[0] not in modes):
        text = f"it asks for {' and '.join(said)}, and only the mean and the first token are done here"
        raise unfit(folder, f"{text}: export the model with its pooling in the graph, or say [model.options] pooling")
    pooling = chosen.get("pooling") or (modes.get(said[0]) if said else None) or "mean"
    last = any(str(module.get("type", "")).endswith("Normalize") for module in folder.modules if isinstance(module, dict))
    return Embedding(spec.shape[-1], pooling, chosen.get("normalize", last))


def _try(folder: Folder, tokenizer: Tokenizer, encoder: Backend, highest: int, length: int) -> None:
    """One row as long as may come, of the token with the highest number: the runtime checks both against the weights."""
    fill = {"input_ids": highest, "attention_mask": 1, "token_type_ids": 0}
    arrays = {name: np.full((1, length), value, np.int64) for name, value in fill.items()}
    what = f"{folder.path}, tried with {length} tokens of the number {highest},"
    with reading_model(what, "its tokenizer is that of another model, or max_length is more than it takes: correct them"):
        encoder.forward(tokenizer.tensors(Encoded((), arrays)))
