"""Small text encoders as Hugging Face lays them out: a tokenizer trained here, and a transformer of two layers in ONNX."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

WIDTH, POSITIONS, LAYERS = 32, 24, 2
GOOD = ("fine", "lovely", "great", "warm", "bright", "kind")
BAD = ("poor", "awful", "cold", "broken", "rude", "dull")
THINGS = ("room", "meal", "film", "book", "host", "street", "garden", "train")
FRAMES = ("the {0} was {1}", "what a {1} {0}", "{1} , this {0}", "my {0} is {1} today", "a {1} {0} again")


def sentences() -> tuple[list[str], NDArray[np.int64]]:
    """Short reviews, and whether each is good."""
    made = [(frame.format(thing, word), word in GOOD) for frame in FRAMES for thing in THINGS for word in (*GOOD, *BAD)]
    return [text for text, _ in made], np.array([good for _, good in made], np.int64)


def train_tokenizer(*, tokens: int = 160, special: bool = True) -> Tokenizer:
    """WordPiece on the sentences above."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=tokens, special_tokens=names, show_progress=False)
    tokenizer.train_from_iterator(sentences()[0], trainer)
    found = sorted(set(tokenizer.get_vocab()) - set(names))
    tokenizer.model = models.WordPiece({name: i for i, name in enumerate([*names, *found])}, unk_token="[UNK]")
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return tokenizer


class Graph:
    """An ONNX graph as it grows: each call adds a node, and gives the name of its output."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.numbers = np.random.default_rng(seed)

    def __call__(self, operator: str, *inputs: str, name: str = "", **attributes: object) -> str:
        output = name or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def random(self, *shape: int) -> str:
        return self.constant(self.numbers.normal(0, shape[0] ** -0.5, shape).astype(np.float32))

    def norm(self, x: str) -> str:
        one, zero = self.constant(np.ones(WIDTH, np.float32)), self.constant(np.zeros(WIDTH, np.float32))
        return self("LayerNormalization", x, one, zero, axis=-1)

    def layer(self, x: str, hidden: str) -> str:
        """Attention to every token that is no padding, and two dense layers, each added to what it was given."""
        query, key, value = (self("MatMul", x, self.random(WIDTH, WIDTH)) for _ in range(3))
        scores = self("MatMul", query, self("Transpose", key, perm=[0, 2, 1]))
        scaled = self("Mul", scores, self.constant(np.float32(WIDTH**-0.5)))
        shares = self("Softmax", self("Add", scaled, hidden), axis=-1)
        x = self.norm(self("Add", x, self("MatMul", shares, value)))
        inner = self("Relu", self("MatMul", x, self.random(WIDTH, 2 * WIDTH)))
        return self.norm(self("Add", x, self("MatMul", inner, self.random(2 * WIDTH, WIDTH))))


def encoder(
    *,
    tokens: int = 160,
    head: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    each: bool = False,
    types: bool = False,
    length: int | str = "tokens",
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
) -> Any:
    """``last_hidden_state`` of each token; with a ``head`` (weights, bias) ``logits`` of each text, or with ``each`` token."""
    graph = Graph()
    words = graph("Gather", graph.random(tokens, WIDTH), inputs[0])
    count = graph("Gather", graph("Shape", inputs[0]), graph.constant(np.int64(1)))
    places = graph("Range", graph.constant(np.int64(0)), count, graph.constant(np.int64(1)))
    x = graph("Add", words, graph("Gather", graph.random(POSITIONS, WIDTH), places))
    if types:
        x = graph("Add", x, graph("Gather", graph.random(2, WIDTH), "token_type_ids"))
    mask = graph("Cast", inputs[1], to=TensorProto.FLOAT)
    hidden = graph("Mul", graph("Sub", mask, graph.constant(np.float32(1))), graph.constant(np.float32(1e9)))
    hidden = graph("Unsqueeze", hidden, graph.constant(np.array([1], np.int64)))
    x = graph.norm(x)
    for _ in range(LAYERS):
        x = graph.layer(x, hidden)
    named = [*inputs, *(["token_type_ids"] if types else [])]
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", length]) for name in named]
    return _model(graph, given, x, mask, head, each, length)


def _model(
    graph: Graph, given: list[Any], x: str, mask: str, head: tuple[Any, Any] | None, each: bool, length: int | str
) -> Any:
    shape: list[int | str] = ["rows", length, WIDTH]
    if head is None:
        name = graph("Identity", x, name="last_hidden_state")
    else:
        if not each:
            x, shape = _mean(graph, x, mask), ["rows"]
        weights, bias = (graph.constant(array.astype(np.float32)) for array in head)
        name = graph("Add", graph("MatMul", x, weights), bias, name="logits")
        shape = [*shape[: 2 if each else 1], len(head[1])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
    made = helper.make_graph(graph.nodes, "encoder", given, outputs, graph.weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _mean(graph: Graph, x: str, mask: str) -> str:
    weights = graph("Unsqueeze", mask, graph.constant(np.array([1], np.int64)))
    axes = graph.constant(np.array([1], np.int64))
    total = graph("Squeeze", graph("MatMul", weights, x), axes)
    return graph("Div", total, graph("ReduceSum", mask, axes, keepdims=1))


def save(
    folder: Path, model: Any, tokenizer: Tokenizer, config: Mapping[str, object] | None = None, *, file: str = "model.onnx"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(model.SerializeToString())
    tokenizer.save(str(folder / "tokenizer.json"))
    written = {
        "model_type": "bert",
        "vocab_size": 160,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
        **(config or {}),
    }
    (folder / "config.json").write_text(json.dumps(written))
    return folder
