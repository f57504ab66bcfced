from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from foretell import steps
from foretell.errors import Invalid, Setup
from foretell.tensors import Datatype, TensorSpec

text: Any = steps.text

WORDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "good": 4, "bad": 5, "café": 6, "<blank>": 7}


def write_tokenizer(path: Path, words: dict[str, int] = WORDS, **padding: Any) -> str:
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if "[CLS]" in words:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    if padding:
        tokenizer.enable_padding(**padding)
    tokenizer.save(str(path))
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return write_tokenizer(tmp_path / "tokenizer.json")


def texts(*values: object) -> dict[str, NDArray[Any]]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return {"text": array}


def test_texts_become_tokens_padded_to_the_longest(file: str) -> None:
    got = text.tokenise(file, outputs=["input_ids", "attention_mask", "token_type_ids"])(
        texts(b"good", "bad café".encode(), "what")
    )
    assert got["input_ids"].tolist() == [[2, 4, 3, 0], [2, 5, 6, 3], [2, 1, 3, 0]]
    assert got["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert got["token_type_ids"].tolist() == [[0] * 4] * 3
    assert {array.dtype for array in got.values()} == {np.dtype(np.int64)}


def test_many_texts_at_once_are_each_text_alone_but_for_the_padding(file: str) -> None:
    step = text.tokenise(file)
    rows = texts(b"", b"good", b"good bad bad")
    together = step(rows)
    for at in range(3):
        alone = step({"text": rows["text"][at : at + 1]})
        length = alone["input_ids"].shape[1]
        np.testing.assert_array_equal(together["input_ids"][at, :length], alone["input_ids"][0])
        assert not together["attention_mask"][at, length:].any()


def test_a_long_text_is_cut_and_a_fixed_length_is_filled(file: str) -> None:
    got = text.tokenise(file, max_length=4, pad_to=6)(texts(b"good " * 100, b"bad"))
    assert got["input_ids"].tolist() == [[2, 4, 4, 3, 0, 0], [2, 5, 3, 0, 0, 0]]


def test_the_padding_is_what_the_file_or_the_step_says(file: str, tmp_path: Path) -> None:
    left = write_tokenizer(tmp_path / "left.json", direction="left", pad_id=7, pad_token="<blank>")
    assert text.tokenise(left)(texts(b"good", b"good bad"))["input_ids"][0].tolist() == [7, 2, 4, 3]
    assert text.tokenise(file, pad_token="<blank>")(texts(b"good", b"good bad"))["input_ids"][0].tolist() == [2, 4, 3, 7]


@pytest.mark.parametrize("bad", [b"caf\xe9", "\ud800"])
def test_what_is_not_utf8_is_refused_with_its_row(file: str, bad: object) -> None:
    with pytest.raises(Invalid, match="row 1: expected UTF-8, got byte 0xe") as caught:
        text.tokenise(file)(texts(b"good", bad))
    assert (caught.value.code, caught.value.details["input"], caught.value.details["row"]) == ("bad_text", "text", 1)


def test_a_text_above_the_limit_is_refused(file: str) -> None:
    with pytest.raises(Invalid, match="at most 3 are allowed") as caught:
        text.tokenise(file, max_bytes=3)(texts(b"good"))
    assert caught.value.code == "refused_value"


def test_the_model_and_the_step_must_agree_on_the_tensors(file: str) -> None:
    ids, mask, kinds = (TensorSpec(name, Datatype.INT64, (None,)) for name in ("input_ids", "attention_mask", "token_type_ids"))
    other = TensorSpec("age", Datatype.FP32)
    step = text.tokenise(file)
    taken = step.takes({"input_ids": ids, "attention_mask": mask, "age": other})
    assert taken == {"text": TensorSpec("text", Datatype.BYTES), "age": other}
    with pytest.raises(Setup, match="takes no 'attention_mask'"):
        step.takes({"input_ids": ids})
    with pytest.raises(Setup, match="takes 'token_type_ids' as well: add it to outputs"):
        step.takes({"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds})
    with pytest.raises(Setup, match="max_length = 128 and pad_to = 128"):
        text.tokenise(file, outputs=["input_ids"]).takes({"input_ids": TensorSpec("input_ids", Datatype.INT64, (128,))})
    with pytest.raises(Setup, match="one BYTES value a row"):
        step.gives({"text": other})


def test_options_and_files_that_cannot_be_meant_are_refused(file: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{}")
    unpadded = write_tokenizer(tmp_path / "unpadded.json", {"[UNK]": 0})
    make: Callable[[], object]
    for make in (
        lambda: text.tokenise(str(tmp_path / "broken.json")),
        lambda: text.tokenise(unpadded),
        lambda: text.tokenise(file, pad_token="[NONE]"),
        lambda: text.tokenise(file, max_length=0),
        lambda: text.tokenise(file, max_length=8, pad_to=4),
        lambda: text.tokenise(file, outputs=["ids"]),
        lambda: text.tokenise(file, outputs=[]),
    ):
        with pytest.raises(Setup) as caught:
            make()
        assert caught.value.code == "broken_pipeline"
