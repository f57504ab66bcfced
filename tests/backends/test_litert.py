"""LiteRT models: floats, scaled integers and texts, from files that were made by tests/backends/make_litert.py."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from foretell.backends import ModelOptions, describe, is_thread_safe, load_backend
from foretell.errors import Setup, Unavailable
from foretell.pipeline import Pipeline
from foretell.tensors import Datatype

MODELS = Path(__file__).with_name("models")
PIXELS, DIGITS = load_digits(return_X_y=True)
PIXELS = (PIXELS[1500:] / 16).astype(np.float32)
DIGITS = DIGITS[1500:]


def load(name: str, **options: object) -> Pipeline:
    return Pipeline(load_backend(MODELS / f"{name}.tflite", ModelOptions(options=options)))


def probabilities(pipeline: Pipeline, pixels: NDArray[np.float32] = PIXELS) -> NDArray[np.float32]:
    return pipeline({"pixels": pixels})["probabilities"].astype(np.float32)


def changed(name: str, target: Path, change: object) -> Path:
    """A copy of a model, its tables changed by a function that is given them."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs((MODELS / f"{name}.tflite").read_bytes()))
    assert callable(change)
    change(model)
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(builder.Output())
    return target


def refusal(path: Path, **options: object) -> Setup:
    with pytest.raises(Setup) as refused:
        load_backend(path, ModelOptions(options=options))
    assert str(path) in refused.value.message
    return refused.value


@pytest.mark.parametrize("name", ["digits_float", "digits_fixed", "digits_int8", "digits_uint8_in"])
def test_names_and_shapes_are_those_of_the_signature_and_numbers_are_floats(name: str) -> None:
    signature = load(name).signature
    assert str(signature) == "(pixels FP32 [64]) -> (probabilities FP32 [10])"
    assert signature.rows


@pytest.mark.parametrize("name", ["digits_float", "digits_fixed", "digits_int8", "digits_uint8_in"])
def test_digits_are_recognized(name: str) -> None:
    answers = probabilities(load(name))
    assert (answers.argmax(axis=1) == DIGITS).mean() > 0.83


@pytest.mark.parametrize("name", ["digits_fixed", "digits_int8", "digits_uint8_in"])
def test_what_the_forms_of_a_net_answer_is_close(name: str) -> None:
    np.testing.assert_allclose(probabilities(load(name)), probabilities(load("digits_float")), atol=0.06)


def test_scaled_integers_can_be_had_as_they_are() -> None:
    pipeline = load("digits_int8", integers=True)
    assert str(pipeline.signature) == "(pixels INT8 [64]) -> (probabilities INT8 [10])"
    integers = np.rint(PIXELS[:5] * 255 - 128).astype(np.int8)
    answers = pipeline({"pixels": integers})["probabilities"].astype(np.float32)
    np.testing.assert_allclose((answers + 128) / 256, probabilities(load("digits_int8"), PIXELS[:5]), atol=0.01)


def test_floats_beyond_the_range_of_the_integers_become_its_ends_and_nan_zero() -> None:
    pipeline = load("digits_int8")
    strange = np.tile(np.array([np.inf, -np.inf, 7, -7, np.nan, 0, 1, 0.5], np.float32), (1, 8))
    plain = np.tile(np.array([1, 0, 1, 0, 0, 0, 1, 0.5], np.float32), (1, 8))
    with np.errstate(all="raise"):
        answers = pipeline({"pixels": strange})
    np.testing.assert_array_equal(answers["probabilities"], pipeline({"pixels": plain})["probabilities"])


def test_any_number_of_rows_after_any_other_gives_the_same() -> None:
    pipeline = load("digits_float")
    whole = probabilities(pipeline)
    for count in (1, 3, 200, 2, 1):
        np.testing.assert_allclose(probabilities(pipeline, PIXELS[:count]), whole[:count], rtol=1e-5)


def test_texts_go_in_and_come_out_whatever_bytes_they_are() -> None:
    pipeline = load("words")
    assert str(pipeline.signature) == "(word BYTES []) -> (again BYTES [1], number INT64 [])"
    words = np.array([b"two", b"", b"drei", b"\xff\x00 x\x00"], np.object_)
    answers = pipeline({"word": words})
    assert answers["number"].tolist() == [2, -1, 3, -1]
    assert answers["again"].tolist() == [[word] for word in words]


def test_answers_stay_as_they_are_when_the_next_are_computed() -> None:
    pipeline = load("digits_float")
    first = pipeline({"pixels": PIXELS[:3]})["probabilities"]
    before = first.copy()
    pipeline({"pixels": PIXELS[3:6]})
    np.testing.assert_array_equal(first, before)


def test_a_closed_model_says_so() -> None:
    model = load_backend(MODELS / "digits_float.tflite")
    model.close()
    with pytest.raises(Unavailable, match="the model is closed"):
        model.forward({"pixels": PIXELS})


def test_it_is_not_thread_safe_and_tells_its_operators() -> None:
    model = load_backend(MODELS / "digits_uint8_in.tflite", ModelOptions(threads=2))
    facts = describe(model)
    assert not is_thread_safe(model)
    assert facts["format"] == "LiteRT, schema 3"
    assert facts["runtime"].startswith("ai-edge-litert ")
    assert facts["operators"] == "DEQUANTIZE, FULLY_CONNECTED, QUANTIZE, SOFTMAX"
    assert facts["threads"] == "2"


def test_a_model_without_a_signature_has_the_names_of_its_tensors(tmp_path: Path) -> None:
    def drop(model: schema.ModelT) -> None:
        model.signatureDefs = []

    pipeline = Pipeline(load_backend(changed("digits_float", tmp_path / "m.tflite", drop)))
    assert [spec.name for spec in pipeline.signature.inputs] == ["serving_default_pixels:0"]
    (answer,) = pipeline({"serving_default_pixels:0": PIXELS}).values()
    np.testing.assert_allclose(answer.astype(np.float32), probabilities(load("digits_float")), rtol=1e-6)


def test_a_model_with_several_signatures_is_asked_by_name(tmp_path: Path) -> None:
    def rename(model: schema.ModelT) -> None:
        model.signatureDefs[0].signatureKey = b"classify"
        other = schema.SignatureDefT()
        other.inputs, other.outputs = model.signatureDefs[0].inputs, model.signatureDefs[0].outputs
        other.signatureKey, other.subgraphIndex = b"other", 0
        model.signatureDefs.append(other)

    path = changed("digits_float", tmp_path / "m.tflite", rename)
    refused = refusal(path)
    assert refused.code == "wrong_setting"
    assert "'classify', 'other'" in refused.message
    assert load_backend(path, ModelOptions(options={"signature": "other"})).signature.inputs[0].name == "pixels"


def test_an_unknown_option_is_refused() -> None:
    refused = refusal(MODELS / "digits_float.tflite", integer=True)
    assert refused.code == "wrong_setting"
    assert "takes the options integers and signature only: remove integer" in refused.message


def test_a_scale_for_each_channel_of_an_input_is_refused(tmp_path: Path) -> None:
    def split(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        held = graph.tensors[graph.outputs[0]].quantization
        held.scale, held.zeroPoint, held.quantizedDimension = [1 / 256] * 10, [-128] * 10, 1

    refused = refusal(changed("digits_int8", tmp_path / "m.tflite", split))
    assert refused.code == "broken_model"
    assert "'probabilities' has a scale for each of 10 channels" in refused.message


def test_a_model_that_keeps_state_between_calls_is_refused(tmp_path: Path) -> None:
    def write(model: schema.ModelT) -> None:
        model.operatorCodes[0].builtinCode = schema.BuiltinOperator.ASSIGN_VARIABLE
        model.operatorCodes[0].deprecatedBuiltinCode = 127

    refused = refusal(changed("digits_float", tmp_path / "m.tflite", write))
    assert refused.code == "broken_model"
    assert "keeps state between calls" in refused.message


def test_an_operator_that_is_not_there_is_named(tmp_path: Path) -> None:
    def replace(model: schema.ModelT) -> None:
        code = model.operatorCodes[0]
        code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM, schema.BuiltinOperator.CUSTOM
        code.customCode = b"FlexMine"

    refused = refusal(changed("digits_float", tmp_path / "m.tflite", replace))
    assert refused.code == "broken_model"
    assert "FlexMine" in refused.message or "Select TensorFlow op" in refused.message
    assert "built-in operators" in refused.message


def test_a_model_that_is_newer_than_the_runtime_is_refused(tmp_path: Path) -> None:
    def raise_schema(model: schema.ModelT) -> None:
        model.version = 4

    def raise_operator(model: schema.ModelT) -> None:
        model.operatorCodes[0].version = 99

    assert "version 4" in refusal(changed("digits_float", tmp_path / "schema.tflite", raise_schema)).message
    assert "version '99'" in refusal(changed("digits_float", tmp_path / "operator.tflite", raise_operator)).message


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\x03\x04" + b"x" * 99, b"\x08\x08" + b"onnx" * 9], ids=repr)
def test_another_kind_of_file_behind_the_suffix_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    refused = refusal(path)
    assert refused.code == "broken_model"
    assert "fifth to eighth bytes are TFL3" in refused.message


@pytest.mark.parametrize("length", [8, 9, 40, 1000, 8000, -1])
def test_a_truncated_model_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes((MODELS / "digits_float.tflite").read_bytes()[:length])
    refused = refusal(path)
    assert refused.code == "broken_model"
    assert "\n" not in refused.message


def test_a_damaged_model_that_crashes_the_runtime_is_refused(tmp_path: Path) -> None:
    def damage(model: schema.ModelT) -> None:
        texts = next(each for each in model.buffers if each.data is not None and b"drei" in bytes(each.data))
        content = bytearray(texts.data)
        content[4:16] = (2**30).to_bytes(4, "little") * 3
        texts.data = np.frombuffer(bytes(content), np.uint8)

    path = changed("words", tmp_path / "m.tflite", damage)
    refused = refusal(path)
    assert refused.code == "broken_model"
    assert "crashes its runtime, with signal 11" in refused.message


def test_importing_the_package_does_not_import_the_runtime() -> None:
    program = "import sys, foretell; sys.exit('ai_edge_litert' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_bytes_are_not_said_to_be_texts() -> None:
    spec = load("words").signature.inputs[0]
    assert (spec.dtype, spec.text) == (Datatype.BYTES, False)
