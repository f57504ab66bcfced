"""Texts to tokens, cut and padded as the encoder takes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from foretell.backends import reading_model
from foretell.backends.huggingface.heads import Encoded
from foretell.errors import Setup
from foretell.storage import check_inside, read_small
from foretell.tensors import Array, Arrays, TensorSpec

FILLED = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""What a tokenizer gives to an encoder."""
MOST_CHARACTERS_A_TOKEN = 100
"""So many characters for each token that is kept are looked at: what follows them would be cut off anyway."""
_MOST_BYTES = 256 * 2**20


class Tokenizer:
    """A ``tokenizer.json`` that cuts texts at ``max_length`` tokens and pads them to the longest of a batch.

    ``inputs`` are those of the encoder; ``fixed`` is the number of tokens that its graph demands, if it does.
    """

    def __init__(
        self, rules: Any, inputs: Sequence[TensorSpec], max_length: int, pad: tuple[int, str], fixed: int | None
    ) -> None:
        cut = dict(rules.truncation or {}).get("direction", "right")
        side = dict(rules.padding or {}).get("direction", "right")
        rules.enable_truncation(max_length, direction=cut)
        rules.enable_padding(direction=side, pad_id=pad[0], pad_token=pad[1], length=fixed)
        self.max_length = max_length
        self._rules = rules
        self._inputs = inputs
        self._pad = pad[0]
        self._kept = slice(None, max_length * MOST_CHARACTERS_A_TOKEN if cut == "right" else None)

    def encode(self, texts: Array) -> Encoded:
        whole = (text if isinstance(text, str) else text.decode() for text in texts)
        rows = self._rules.encode_batch([text[self._kept] for text in whole])
        width = max(1, len(rows[0].ids))  # a tokenizer without special tokens makes nothing of an empty text
        arrays = {name: np.array([getattr(row, kind) for row in rows], np.int64) for name, kind in FILLED.items()}
        if not len(rows[0].ids):
            fill = {"input_ids": self._pad, "attention_mask": 0, "token_type_ids": 0}
            arrays = {name: np.full((len(rows), width), value, np.int64) for name, value in fill.items()}
        return Encoded(rows, arrays)

    def tensors(self, texts: Encoded) -> Arrays:
        return {spec.name: texts.arrays[spec.name].astype(spec.dtype.numpy, copy=False) for spec in self._inputs}


def read_rules(path: Path) -> Any:
    file = path / "tokenizer.json"
    if not file.is_file():
        held = ", ".join(sorted(each.name for each in path.iterdir())[:10]) if path.is_dir() else "no folder"
        raise Setup(
            "missing_file",
            f"there is no tokenizer.json in {path}, which holds {held}: save the tokenizer there, with "
            "AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)",
        )
    check_inside(file, path)
    with reading_model(file, "save it again with tokenizer.save_pretrained, or update the package tokenizers"):
        return tokenizers.Tokenizer.from_buffer(read_small(file, _MOST_BYTES))
