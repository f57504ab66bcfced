"""What the small files of a model's folder say, and where they contradict each other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from foretell.backends import reading_model
from foretell.errors import Setup
from foretell.storage import check_inside, read_small

MOST_TOKENS = 512
"""How many tokens of a text are kept by a model that does not say what it takes."""
_MOST_CONFIG_BYTES = 16 * 2**20
_PADS = ("[PAD]", "<pad>", "<|padding|>", "<|endoftext|>", "</s>")
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "longformer", "mpnet", "data2vec-text")
"""Families that begin to count positions after the number of their padding token."""


@dataclass(frozen=True)
class Folder:
    """What the files of a folder say; what a file leaves out, or a file that is not there, is empty."""

    path: Path
    config: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    sentences: Mapping[str, Any]
    pooling: Mapping[str, Any]
    modules: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "Folder":
        """Raises Setup ``broken_model`` for a file that is not the JSON that it should be, or ``outside_folder``."""
        tables = {
            name: _read(path / file, path, dict)
            for name, file in {
                "config": "config.json",
                "tokenizer_config": "tokenizer_config.json",
                "sentences": "sentence_bert_config.json",
                "pooling": "1_Pooling/config.json",
            }.items()
        }
        return cls(path, **tables, modules=_read(path / "modules.json", path, list))

    def number(self, key: str) -> int | None:
        """A count of config.json. Raises Setup for what is none."""
        value = self.config.get(key)
        if value is not None and (type(value) is not int or value < 0):
            raise Setup(
                "broken_model", f"{self.path / 'config.json'}: {key} should be a whole number, got {value!r}: correct it"
            )
        return value


def _read(file: Path, folder: Path, kind: type[Any]) -> Any:
    if not file.exists():
        return kind()
    check_inside(file, folder)
    with reading_model(file, f"it should be JSON in UTF-8 of at most {_MOST_CONFIG_BYTES:,} bytes: save the model again"):
        found = msgspec.json.decode(read_small(file, _MOST_CONFIG_BYTES))
        if not isinstance(found, kind):
            raise ValueError(f"it holds a {type(found).__name__}, not a {kind.__name__}")
        return found


def task_of(config: Mapping[str, Any]) -> str:
    names = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith("ForSequenceClassification") for name in names):
        return "text-classification"
    return "token-classification" if any(name.endswith("ForTokenClassification") for name in names) else "embedding"


def names_of(folder: Folder, count: int | None) -> list[str]:
    """The classes in the order of their numbers, as ``id2label`` of config.json has them."""
    table = folder.config.get("id2label")
    if table is None:
        if count is None:
            raise unfit(folder, "neither id2label of config.json nor the graph says how many classes there are: add id2label")
        return [f"LABEL_{number}" for number in range(count)]
    numbers = [str(number) for number in range(len(table))] if isinstance(table, dict) else []
    if not numbers or set(numbers) != set(table):
        raise unfit(folder, "id2label of config.json does not name the classes 0, 1, 2 and so on: correct it")
    if count is not None and count != len(numbers):
        raise unfit(folder, f"id2label of config.json names {len(numbers)} classes, and the encoder gives {count}: correct it")
    return [str(table[number]) for number in numbers]


def max_length(folder: Folder, chosen: Mapping[str, Any], rules: Any, fixed: int | None) -> int:
    """The least of what the folder says. ``max_length`` of the options may be less, not more."""
    positions = folder.number("max_position_embeddings")
    if positions is not None and folder.config.get("model_type") in _OFFSET_POSITIONS:
        positions -= (folder.number("pad_token_id") or 0) + 1
    said = [
        positions,
        folder.tokenizer_config.get("model_max_length"),
        folder.sentences.get("max_seq_length"),
        dict(rules.truncation or {}).get("max_length"),
        fixed,
    ]
    known = [int(each) for each in said if isinstance(each, int | float) and math.isfinite(each) and 0 < each < 2**31]
    most = min(known, default=MOST_TOKENS)
    wanted = int(chosen.get("max_length", most))
    if known and wanted > most:
        raise Setup(
            "wrong_setting", f"{folder.path}: option 'max_length' is {wanted}, and the model takes at most {most} tokens"
        )
    special = rules.num_special_tokens_to_add(is_pair=False)
    if wanted <= special:
        raise Setup("wrong_setting", f"{folder.path}: {wanted} tokens are all special ones: raise max_length above {special}")
    return wanted


def pad_of(folder: Folder, rules: Any) -> tuple[int, str]:
    """Number and text of the padding token: the tokenizer's own, or config.json's, or one of the usual ones."""
    own = dict(rules.padding or {})
    if own:
        return int(own["pad_id"]), str(own["pad_token"])
    said = folder.tokenizer_config.get("pad_token")
    text = said.get("content") if isinstance(said, dict) else said
    number = folder.number("pad_token_id")
    names = [str(text), *_PADS] if text else [*([rules.id_to_token(number)] if number is not None else []), *_PADS]
    for name in names:
        found = rules.token_to_id(name) if name is not None else None
        if found is not None:
            return int(found), name
    return 0, rules.id_to_token(0) or "[PAD]"  # what stands there is masked


def check_vocabulary(folder: Folder, rules: Any) -> None:
    size = folder.number("vocab_size")
    numbers = rules.get_vocab(with_added_tokens=True)
    most = max(numbers.values(), default=0)
    if size is not None and most >= size:
        raise unfit(
            folder,
            f"its tokenizer has tokens up to number {most}, and its model knows {size} (vocab_size of config.json): "
            "put the tokenizer there that the model was trained with",
        )


def unfit(folder: Folder, why: str) -> Setup:
    return Setup("broken_model", f"{folder.path} cannot be loaded: {why}")
