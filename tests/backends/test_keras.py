"""Keras archives and SavedModels, made here by TensorFlow: `make runtimes` installs it (1.3 GB), `make test` skips this."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from foretell.backends import Backend, ModelOptions, describe, is_thread_safe, load_backend
from foretell.errors import Setup, Unavailable
from foretell.pipeline import Pipeline

tf = pytest.importorskip("tensorflow", reason="the extra keras is not installed: make runtimes")
import keras  # noqa: E402 - after the skip

pytestmark = pytest.mark.filterwarnings("default")  # TensorFlow's own

PIXELS, DIGITS = load_digits(return_X_y=True)
PIXELS = (PIXELS / 16).astype(np.float32).reshape(-1, 8, 8, 1)


@pytest.fixture(scope="module")
def net() -> Any:
    """A small convolutional net that has learned digits."""
    keras.utils.set_random_seed(7)
    layers = [
        keras.Input((8, 8, 1), name="pixels"),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax", name="digit"),
    ]
    net = keras.Sequential(layers)
    net.compile("adam", "sparse_categorical_crossentropy")
    net.fit(PIXELS[:1500], DIGITS[:1500], epochs=15, verbose=0)
    return net


@pytest.fixture(scope="module")
def folder(net: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    net.save(folder / "net.keras")
    net.export(folder / "saved", verbose=False)
    return folder


@pytest.fixture(params=["net.keras", "saved"])
def backend(request: pytest.FixtureRequest, folder: Path) -> Iterator[Backend]:
    backend = load_backend(folder / request.param, ModelOptions(trust=request.param == "saved"))
    yield backend
    backend.close()


def answer(backend: Backend, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    (answer,) = backend.forward({"pixels": pixels}).values()
    return answer.astype(np.float32)


def refusal(path: Path, trust: bool = False, **options: object) -> Setup:
    with pytest.raises(Setup) as refused:
        load_backend(path, ModelOptions(trust=trust, options=options))
    assert str(path) in refused.value.message
    return refused.value


def test_it_answers_as_keras_does(backend: Backend, net: Any) -> None:
    answers = answer(backend, PIXELS[1500:])
    np.testing.assert_allclose(answers, net.predict(PIXELS[1500:], verbose=0), rtol=1e-4, atol=1e-6)
    assert (answers.argmax(axis=1) == DIGITS[1500:]).mean() > 0.85


def test_a_row_alone_is_answered_as_in_a_batch(backend: Backend) -> None:
    together = answer(backend, PIXELS[:5])
    alone = np.concatenate([answer(backend, PIXELS[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)


def test_threads_may_share_it(backend: Backend) -> None:
    assert is_thread_safe(backend)
    want = answer(backend, PIXELS[:40])
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda start: answer(backend, PIXELS[start : start + 10]), [0, 10, 20, 30] * 5))
    np.testing.assert_allclose(np.concatenate(got[:4]), want, rtol=1e-5, atol=1e-7)


def test_a_closed_model_says_so(backend: Backend) -> None:
    backend.close()
    backend.close()
    with pytest.raises(Unavailable, match="the model is closed"):
        answer(backend, PIXELS[:1])


def test_an_archive_has_the_names_of_its_layers_and_a_saved_model_those_of_its_signature(folder: Path) -> None:
    archive, saved = load_backend(folder / "net.keras"), load_backend(folder / "saved", ModelOptions(trust=True))
    assert str(archive.signature) == "(pixels FP32 [8, 8, 1]) -> (digit FP32 [10])"
    assert str(saved.signature) == "(pixels FP32 [8, 8, 1]) -> (output_0 FP32 [10])"
    assert archive.signature.rows
    assert saved.signature.rows
    assert describe(archive)["parameters"] == "2,970"
    assert describe(archive)["producer"] == f"keras {keras.__version__}"
    assert describe(saved)["format"] == "SavedModel"


def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path) -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((None, 2), name="b", dtype="int32")
    mean = keras.layers.GlobalAveragePooling1D()(keras.ops.cast(b, "float32"))
    keras.Model({"b": b, "a": a}, {"y": mean, "x": keras.layers.Dense(2)(a)}).save(tmp_path / "two.keras")
    pipeline = Pipeline(load_backend(tmp_path / "two.keras"))
    assert set(map(str, pipeline.signature.inputs)) == {"a FP32 [4]", "b INT32 [?, 2]"}
    inputs = {"a": np.ones((3, 4), np.float32), "b": np.arange(36, dtype=np.int32).reshape(3, 6, 2)}
    answers = pipeline(inputs)
    assert set(answers) == {"x", "y"}
    np.testing.assert_allclose(answers["y"].astype(np.float32), inputs["b"].mean(axis=1))


def test_texts_are_looked_up(tmp_path: Path) -> None:
    word = keras.Input((1,), dtype="string", name="word")
    model = keras.Model(word, keras.layers.StringLookup(vocabulary=["one", "two"], name="number")(word))
    model.save(tmp_path / "words.keras")
    pipeline = Pipeline(load_backend(tmp_path / "words.keras"))
    assert str(pipeline.signature) == "(word BYTES [1]) -> (number INT64 [1])"
    answers = pipeline({"word": np.array([[b"two"], [b"drei"]], np.object_)})
    assert answers["number"].tolist() == [[2], [0]]


def test_a_saved_model_may_have_several_signatures_and_answer_with_texts(tmp_path: Path) -> None:
    module = tf.Module()
    module.offset = tf.Variable(3)

    def join(word: Any) -> Any:
        return {"joined": tf.strings.join([word, "!"])}

    def add(number: Any) -> Any:
        return {"sum": number + module.offset}

    joins = tf.function(join, input_signature=[tf.TensorSpec((None,), tf.string)])
    adds = tf.function(add, input_signature=[tf.TensorSpec((None,), tf.int32)])
    tf.saved_model.save(module, str(tmp_path / "m"), {"join": joins, "add": adds})
    joined = load_backend(tmp_path / "m", ModelOptions(trust=True, options={"signature": "join"}))
    answers = joined.forward({"word": np.array([b"a", b"\xff\x00"], np.object_)})
    assert answers["joined"].tolist() == [b"a!", b"\xff\x00!"]
    added = load_backend(tmp_path / "m", ModelOptions(trust=True, options={"signature": "add"}))
    assert added.forward({"number": np.array([1, 2], np.int32)})["sum"].tolist() == [4, 5]
    refused = refusal(tmp_path / "m", trust=True)
    assert refused.code == "wrong_setting"
    assert "'add', 'join'" in refused.message or "'join', 'add'" in refused.message


def test_a_saved_model_is_a_program_and_needs_trust(folder: Path) -> None:
    refused = refusal(folder / "saved")
    assert refused.code == "untrusted_model"
    assert "trust = true" in refused.message


def test_a_lambda_runs_with_trust_only(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "m.keras")
    assert refusal(tmp_path / "m.keras").code == "untrusted_model"
    trusted = load_backend(tmp_path / "m.keras", ModelOptions(trust=True))
    (answers,) = trusted.forward({trusted.signature.inputs[0].name: np.ones((1, 4), np.float32)}).values()
    assert answers.tolist() == [[2, 2, 2, 2]]


@pytest.mark.parametrize("part", ["net.keras", "saved/saved_model.pb", "saved/variables/variables.index"])
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_truncated_model_is_refused(net: Any, tmp_path: Path, part: str, share: float) -> None:
    net.save(tmp_path / "net.keras")
    net.export(tmp_path / "saved", verbose=False)
    file = tmp_path / part
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    refused = refusal(tmp_path / part.partition("/")[0], trust=True)
    assert refused.code == "broken_model"
    assert "\n" not in refused.message


def test_an_unknown_option_is_refused(folder: Path) -> None:
    refused = refusal(folder / "net.keras", dtype="FP64")
    assert refused.code == "wrong_setting"
    assert "remove dtype" in refused.message
