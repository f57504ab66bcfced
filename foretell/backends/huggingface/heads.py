"""What makes answers of an encoder's numbers: a vector for each text, its class, or the labels of its tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from foretell.classes import LABEL, PROBABILITIES
from foretell.tensors import Array, Arrays, Datatype, TensorSpec

EMBEDDING, SCORE, TOKENS = "embedding", "score", "tokens"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """Texts as the encoder takes them, and what the tokenizer said of each."""

    rows: Sequence[Any]
    arrays: Mapping[str, NDArray[np.int64]]

    @property
    def mask(self) -> NDArray[np.int64]:
        return self.arrays["attention_mask"]


class Head(Protocol):
    """What makes answers of what the encoder gave."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def __call__(self, given: Array, texts: Encoded) -> Arrays: ...


@dataclass(frozen=True)
class Embedding:
    """One vector a text: the mean over its tokens, or the vector of its first token, or what the graph pooled itself."""

    size: int | None
    pooling: str
    normalize: bool

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(EMBEDDING, Datatype.FP32, (self.size,)),)

    def __call__(self, given: Array, texts: Encoded) -> Arrays:
        vectors = self._pooled(given.astype(np.float32, copy=False), texts.mask)
        if self.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return {EMBEDDING: vectors}

    def _pooled(self, given: Floats, mask: NDArray[np.int64]) -> Floats:
        if given.ndim == 2:
            return given
        if self.pooling == "cls":
            first: Floats = given[np.arange(len(given)), mask.argmax(axis=1)]  # the first that is no padding
            return first
        weights = mask.astype(np.float32)
        total: Floats = np.matmul(weights[:, None, :], given)[:, 0]
        means: Floats = total / np.maximum(weights.sum(axis=1, keepdims=True), 1)
        return means


@dataclass(frozen=True)
class TextClasses:
    """The probability of each class, and the name of the best one. With ``several`` classes at once, each stands alone."""

    names: Array
    several: bool

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        probabilities = TensorSpec(PROBABILITIES, Datatype.FP32, (len(self.names),))
        return TensorSpec(LABEL, Datatype.BYTES, (), text=True), probabilities

    def __call__(self, given: Array, texts: Encoded) -> Arrays:
        probabilities = _sigmoid(given) if self.several else _softmax(given)
        return {LABEL: self.names[probabilities.argmax(axis=1)], PROBABILITIES: probabilities}


@dataclass(frozen=True)
class TextScore:
    """The one number that the model gives to a text, as it is: a regression, or the score of a ranking model."""

    outputs: tuple[TensorSpec, ...] = (TensorSpec(SCORE, Datatype.FP32, ()),)

    def __call__(self, given: Array, texts: Encoded) -> Arrays:
        return {SCORE: given[:, 0].astype(np.float32, copy=False)}


@dataclass(frozen=True)
class TokenClasses:
    """The label of each token, as one JSON list a text: texts of different lengths may then share a batch.

    ``[{"token", "label", "score", "start", "end"}]``, where start and end count the characters of the text.
    """

    names: Sequence[str]
    outputs: tuple[TensorSpec, ...] = (TensorSpec(TOKENS, Datatype.BYTES, (), text=True),)

    def __call__(self, given: Array, texts: Encoded) -> Arrays:
        probabilities = _softmax(given)
        found = np.empty(len(given), np.object_)
        for row, (encoding, scores) in enumerate(zip(texts.rows, probabilities, strict=True)):
            found[row] = msgspec.json.encode(self._tokens(encoding, scores))
        return {TOKENS: found}

    def _tokens(self, encoding: Any, scores: Floats) -> list[dict[str, object]]:
        best = scores.argmax(axis=1)
        return [
            {
                "token": token,
                "label": self.names[best[i]],
                "score": round(float(scores[i, best[i]]), 6),
                "start": start,
                "end": end,
            }
            for i, (token, (start, end)) in enumerate(zip(encoding.tokens, encoding.offsets, strict=True))
            if encoding.attention_mask[i] and not encoding.special_tokens_mask[i]
        ]


def _softmax(logits: Array) -> Floats:
    exact = logits.astype(np.float32, copy=False)
    powers = np.exp(exact - exact.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _sigmoid(logits: Array) -> Floats:
    exact = logits.astype(np.float32, copy=False)
    return np.asarray(0.5 * (1 + np.tanh(0.5 * exact)), np.float32)
