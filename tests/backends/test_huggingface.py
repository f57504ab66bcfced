"""Folders of text encoders: what they answer, what they read of their folder, and what does not fit together."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

from foretell.backends import Backend, ModelOptions, load_backend
from foretell.errors import Invalid, Setup, Unavailable
from foretell.pipeline import Pipeline
from tests.backends import encoders

TEXTS = ["the room was lovely", "awful", "a kind host again , what a warm meal"]
ZEROS = (np.zeros((encoders.WIDTH, 3), np.float32), np.array([0.0, 1.0, -1.0], np.float32))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return encoders.train_tokenizer()


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """An encoder without a head."""
    return encoders.save(tmp_path / "encoder", encoders.encoder(), tokenizer)


def load(folder: Path, **options: object) -> Backend:
    return load_backend(folder, ModelOptions(options=options))


def ask(backend: Backend, texts: list[str]) -> Any:
    return Pipeline(backend)({"text": np.array([text.encode() for text in texts], np.object_)})


def refusal(folder: Path, **options: object) -> Setup:
    with pytest.raises(Setup) as refused:
        load(folder, **options)
    return refused.value


def states(folder: Path, tokenizer: Tokenizer, text: str) -> NDArray[np.float32]:
    """The vector of each token of one text, by the runtime itself."""
    ids = np.array([tokenizer.encode(text).ids], np.int64)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    found: NDArray[np.float32] = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]
    return found


# -- embeddings


def test_a_text_becomes_the_mean_of_its_tokens(folder: Path, tokenizer: Tokenizer) -> None:
    got = ask(load(folder), TEXTS)["embedding"]
    want = np.stack([states(folder, tokenizer, text).mean(axis=0) for text in TEXTS])
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert got.dtype == np.float32


def test_a_text_in_a_batch_is_answered_as_alone(folder: Path) -> None:
    backend = load(folder)
    alone = np.concatenate([ask(backend, [text])["embedding"] for text in TEXTS])
    np.testing.assert_allclose(ask(backend, TEXTS)["embedding"], alone, atol=1e-5)


def test_vectors_are_brought_to_length_one_when_that_is_asked_for(folder: Path) -> None:
    got = ask(load(folder, normalize=True), TEXTS)["embedding"]
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


def test_what_sentence_transformers_wrote_is_obeyed(folder: Path, tokenizer: Tokenizer) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(
        json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    )
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Normalize"}]))
    first = states(folder, tokenizer, TEXTS[0])[0]
    np.testing.assert_allclose(ask(load(folder), TEXTS[:1])["embedding"][0], first / np.linalg.norm(first), atol=1e-5)


def test_a_pooling_that_is_not_done_here_is_refused(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    assert "pooling_mode_max_tokens" in refusal(folder).message


def test_an_encoder_in_its_own_folder_is_found(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = encoders.save(tmp_path / "encoder", encoders.encoder(), tokenizer, file="onnx/model.onnx")
    assert ask(load(folder), TEXTS)["embedding"].shape == (3, encoders.WIDTH)


def test_token_types_are_given_to_an_encoder_that_takes_them(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = encoders.save(tmp_path / "encoder", encoders.encoder(types=True), tokenizer)
    assert ask(load(folder), TEXTS)["embedding"].shape == (3, encoders.WIDTH)


def test_an_encoder_of_one_length_is_filled_up_to_it(tmp_path: Path, folder: Path, tokenizer: Tokenizer) -> None:
    fixed = encoders.save(tmp_path / "fixed", encoders.encoder(length=16), tokenizer)
    got = ask(load(fixed), TEXTS)["embedding"]
    np.testing.assert_allclose(got, ask(load(folder), TEXTS)["embedding"], atol=1e-5)


def test_an_empty_text_has_an_answer(tmp_path: Path, folder: Path) -> None:
    assert np.isfinite(ask(load(folder), [""])["embedding"]).all()
    bare = encoders.save(tmp_path / "bare", encoders.encoder(), encoders.train_tokenizer(special=False))
    np.testing.assert_array_equal(ask(load(bare), ["", ""])["embedding"], np.zeros((2, encoders.WIDTH)))


def test_a_long_text_keeps_its_first_tokens(folder: Path) -> None:
    backend = load(folder, max_length=10)
    got = ask(backend, ["the room was lovely " * n for n in (2, 3, 50_000)])["embedding"]
    np.testing.assert_allclose(got[1:], got[:1].repeat(2, axis=0), atol=1e-5)


def test_a_text_that_is_no_utf8_is_its_callers_fault(folder: Path) -> None:
    with pytest.raises(Invalid) as refused:
        Pipeline(load(folder))({"text": np.array([b"\xff"], np.object_)})
    assert refused.value.code == "bad_text"


def test_it_says_what_it_is(folder: Path) -> None:
    facts = load(folder).facts  # type: ignore[attr-defined]
    assert facts["format"] == "Hugging Face folder"
    assert (facts["task"], facts["max_length"], facts["provider"]) == ("embedding", "24 tokens", "CPUExecutionProvider")


def test_closing_it_closes_the_encoder(folder: Path) -> None:
    backend = load(folder)
    backend.close()
    backend.close()
    with pytest.raises(Unavailable):
        ask(backend, TEXTS)


# -- classes


def test_a_classifier_that_was_trained_here_tells_good_from_bad(tmp_path: Path, folder: Path, tokenizer: Tokenizer) -> None:
    texts, good = encoders.sentences()
    vectors = ask(load(folder), texts)["embedding"]
    mixed = np.random.default_rng(0).permutation(len(texts))
    learned, held = mixed[::2], mixed[1::2]
    fitted = LogisticRegression(C=100, max_iter=2000).fit(vectors[learned], good[learned])
    head = (np.stack([np.zeros(encoders.WIDTH), fitted.coef_[0]], axis=1), np.array([0, fitted.intercept_[0]]))
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "bad", "1": "good"}}
    classifier = encoders.save(tmp_path / "classifier", encoders.encoder(head=head), tokenizer, config)
    got = ask(load(classifier), [texts[number] for number in held])
    assert (
        got["label"] == np.where(good[held], b"good", b"bad")
    ).mean() > 0.7  # 0.5 is chance; the tokenizer is trained a little otherwise every time
    np.testing.assert_allclose(got["probabilities"], fitted.predict_proba(vectors[held]), atol=1e-4)


def test_classes_that_may_come_together_have_each_its_own_probability(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = {"architectures": ["XForSequenceClassification"], "problem_type": "multi_label_classification"}
    folder = encoders.save(tmp_path / "m", encoders.encoder(head=ZEROS), tokenizer, config)
    got = ask(load(folder), TEXTS[:1])
    np.testing.assert_allclose(got["probabilities"][0], [0.5, 0.7310586, 0.2689414], atol=1e-6)
    assert got["label"].tolist() == [b"LABEL_1"]


def test_a_model_of_one_number_gives_a_score(tmp_path: Path, tokenizer: Tokenizer) -> None:
    head = (np.zeros((encoders.WIDTH, 1), np.float32), np.array([4.5], np.float32))
    config = {"architectures": ["XForSequenceClassification"]}
    folder = encoders.save(tmp_path / "m", encoders.encoder(head=head), tokenizer, config)
    assert ask(load(folder), TEXTS)["score"].tolist() == [4.5, 4.5, 4.5]


def test_each_token_has_its_label_and_its_place_in_the_text(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = {"architectures": ["XForTokenClassification"], "id2label": {"0": "O", "1": "THING", "2": "PLACE"}}
    folder = encoders.save(tmp_path / "m", encoders.encoder(head=ZEROS, each=True), tokenizer, config)
    text = "Älso a lovely, warm room"
    for tokens in map(json.loads, ask(load(folder), [text, text + " again and again"])["tokens"]):
        assert {token["label"] for token in tokens} == {"THING"}
        words = [text[token["start"] : token["end"]] for token in tokens if token["token"] in ("lovely", "warm", "room")]
        assert words == ["lovely", "warm", "room"]
        assert "[CLS]" not in {token["token"] for token in tokens}


def test_the_answer_to_a_text_does_not_tell_how_long_its_neighbours_are(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = {"architectures": ["XForTokenClassification"]}
    folder = encoders.save(tmp_path / "m", encoders.encoder(head=ZEROS, each=True), tokenizer, config)
    backend = load(folder)
    assert ask(backend, TEXTS)["tokens"][1] == ask(backend, TEXTS[1:2])["tokens"][0]


# -- what does not fit


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = encoders.save(tmp_path / "m", encoders.encoder(tokens=100), tokenizer, {"vocab_size": 100})
    error = refusal(folder)
    assert error.code == "broken_model"
    assert "its model knows 100" in error.message


def test_a_tokenizer_that_only_the_weights_contradict_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = encoders.save(tmp_path / "m", encoders.encoder(tokens=100), tokenizer)
    error = refusal(folder)
    assert error.code == "broken_model"
    assert "its tokenizer is that of another model" in error.message


def test_more_tokens_than_the_weights_have_places_for_are_refused_at_load(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = encoders.save(tmp_path / "m", encoders.encoder(), tokenizer, {"max_position_embeddings": 4096})
    assert "tried with 4096 tokens" in refusal(folder).message


def test_more_tokens_than_the_folder_allows_are_refused(folder: Path) -> None:
    error = refusal(folder, max_length=25)
    assert (error.code, "at most 24 tokens" in error.message) == ("wrong_setting", True)


def test_an_encoder_that_wants_more_than_tokens_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = encoders.save(tmp_path / "m", encoders.encoder(inputs=("tokens_in", "attention_mask")), tokenizer)
    assert "its encoder takes tokens_in INT64" in refusal(folder).message


def test_names_of_classes_that_do_not_fit_the_encoder_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = {"architectures": ["XForSequenceClassification"], "id2label": {"0": "bad", "1": "good"}}
    folder = encoders.save(tmp_path / "m", encoders.encoder(head=ZEROS), tokenizer, config)
    assert "names 2 classes, and the encoder gives 3" in refusal(folder).message


def test_a_task_that_the_encoder_does_not_do_is_refused(folder: Path) -> None:
    assert "none of which is plainly that of text-classification" in refusal(folder, task="text-classification").message


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tasks": "embedding"}, "did you mean 'task'?"),
        ({"task": "embeddings"}, "did you mean 'embedding'?"),
        ({"max_length": 0}, "option 'max_length' should be a int"),
        ({"normalize": "yes"}, "option 'normalize' should be a bool"),
        ({"pooling": "max"}, "use one of cls, mean"),
        ({"max_length": 2}, "2 tokens are all special ones"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(folder: Path, options: dict[str, object], told: str) -> None:
    error = refusal(folder, **options)
    assert error.code == "wrong_setting"
    assert told in error.message


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("config.json", b"{", "broken_model"),
        ("config.json", b"[]", "broken_model"),
        ("config.json", b'{"vocab_size": "many"}', "broken_model"),
        ("tokenizer.json", b"{}", "broken_model"),
        ("tokenizer.json", b"\x80\x04K\x01.", "broken_model"),
        ("model.onnx", b"\x80\x04K\x01.", "broken_model"),
        ("model.onnx", b"", "broken_model"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(folder: Path, file: str, content: bytes, code: str) -> None:
    (folder / file).write_bytes(content)
    error = refusal(folder)
    assert error.code == code
    assert file in error.message


def test_a_folder_without_its_encoder_says_how_to_export_it(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    error = refusal(folder)
    assert error.code == "missing_file"
    assert "optimum-cli export onnx" in error.message


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json", "model.onnx"])
def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path, file: str) -> None:
    (folder / file).rename(tmp_path / file)
    (folder / file).symlink_to(tmp_path / file)
    assert refusal(folder).code == "outside_folder"


def test_a_missing_package_says_what_to_install(folder: Path) -> None:
    program = f"""
import sys
sys.modules["tokenizers"] = None
import foretell
try:
    foretell.load({str(folder)!r})
except foretell.ForetellError as error:
    print(error.code, error.message)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.startswith("missing_extra backend 'huggingface' needs the package 'tokenizers'")
    assert run.stdout.strip().endswith("pip install 'foretell[huggingface]'")
