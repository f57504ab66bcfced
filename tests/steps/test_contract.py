"""What holds for every step of the table."""

import ast
import dataclasses
import inspect
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from foretell.plugins import load_plugin
from foretell.steps import STEPS, Specs, Step, build_step, step_name
from foretell.tensors import Arrays, Signature, TensorSpec

ROWS = 4


def png(height: int = 6, width: int = 5) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def objects(*items: object) -> NDArray[Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def floats(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((ROWS, *shape), dtype=np.float32)


PIXELS = np.random.default_rng(0).integers(0, 256, (ROWS, 6, 5, 3), dtype=np.uint8)
WORDS = objects(b"red", b"blue", b"red", b"green")

# step: (options, {input: (spec, array)}, rows out for each row in)
CASES: dict[str, tuple[dict[str, Any], dict[str, tuple[str, NDArray[Any]]], int]] = {
    "check.dtype": ({"datatype": "FP32"}, {"x": ("FP32[3]", floats(3))}, 1),
    "check.shape": ({"shape": [-1, 3]}, {"x": ("FP32[?, 3]", floats(2, 3))}, 1),
    "check.finite": ({}, {"x": ("FP32[3]", floats(3)), "word": ("BYTES", WORDS)}, 1),
    "check.range": ({"low": 0, "high": 1}, {"x": ("FP32[3]", floats(3))}, 1),
    "check.allowed": ({"values": ["red", "blue", "green"]}, {"word": ("BYTES", WORDS), "x": ("FP32[3]", floats(3))}, 1),
    "table.columns": ({"names": ["a", "b"], "into": "x"}, {"b": ("FP32[2]", floats(2)), "a": ("FP32", floats())}, 1),
    "table.standardise": ({"mean": [0, 1], "std": [1, 2]}, {"x": ("FP32[2]", floats(2))}, 1),
    "table.impute": ({"values": {"a": 1}}, {"a": ("FP32", floats()), "b": ("FP32", floats())}, 1),
    "table.one_hot": ({"categories": ["red", "green", "blue"]}, {"word": ("BYTES", WORDS)}, 1),
    "table.ordinal": ({"categories": ["red", "green", "blue"]}, {"word": ("BYTES", WORDS)}, 1),
    "table.keep": ({"names": ["b"]}, {"a": ("FP32", floats()), "b": ("FP32", floats())}, 1),
    "table.rename": ({"names": {"a": "z"}}, {"a": ("FP32", floats()), "b": ("FP32", floats())}, 1),
    "image.decode": ({"mode": "L"}, {"photo": ("BYTES", objects(*[png()] * ROWS))}, 1),
    "image.resize": ({"height": 4, "width": 3}, {"photo": ("UINT8[?, ?, 3]", PIXELS)}, 1),
    "image.crop": ({"height": 4, "width": 3}, {"photo": ("UINT8[?, ?, 3]", PIXELS)}, 1),
    "image.invert": ({"when": "light"}, {"photo": ("UINT8[6, 5, 3]", PIXELS)}, 1),
    "image.contrast": ({}, {"photo": ("UINT8[6, 5, 3]", PIXELS)}, 1),
    "image.layout": ({"order": "CHW"}, {"photo": ("UINT8[6, 5, 3]", PIXELS)}, 1),
    "image.normalise": ({"mean": [0, 0, 1], "std": 2}, {"photo": ("UINT8[6, 5, 3]", PIXELS)}, 1),
    "image.flatten": ({}, {"photo": ("UINT8[6, 5, 3]", PIXELS)}, 1),
    "text.tokenise": ({"tokenizer": "tokenizer.json"}, {"text": ("BYTES", WORDS)}, 1),
    "numbers.softmax": ({}, {"x": ("FP16[3]", floats(3).astype(np.float16))}, 1),
    "numbers.sigmoid": ({}, {"x": ("FP64", floats().astype(np.float64))}, 1),
    "numbers.argmax": ({"output": "best", "input": "x"}, {"x": ("FP32[3]", floats(3))}, 1),
    "numbers.scale": ({"by": [1, 2], "plus": 3}, {"x": ("FP32[2]", floats(2))}, 1),
    "numbers.cast": ({"datatype": "FP32", "source": "UINT8"}, {"x": ("UINT8[6, 5, 3]", PIXELS)}, 1),
    "labels.decode": ({"labels": ["a", "b"]}, {"x": ("INT64[2]", np.array([[0, 1]] * ROWS))}, 1),
    "labels.top_k": ({"k": 2, "labels": "labels.txt", "input": "x"}, {"x": ("FP32[3]", floats(3)), "y": ("FP32", floats())}, 1),
    "labels.threshold": ({"at": 0.5}, {"x": ("FP32[2]", floats(2))}, 1),
    "labels.abstain": ({"below": 0.5}, {"label": ("BYTES", WORDS), "probability": ("FP32", floats())}, 1),
    "windows.cut": (
        {"size": 3, "count": 2, "stride": 4, "input": "x"},
        {"x": ("FP32[?, 2]", floats(7, 2)), "y": ("FP32", floats())},
        2,
    ),
    "windows.crops": ({"height": 4, "width": 3, "input": "x"}, {"x": ("UINT8[6, 5, 3]", PIXELS), "y": ("FP32", floats())}, 5),
    "windows.merge": ({"count": 2}, {"x": ("FP32[2]", floats(2))}, -2),
}

BEFORE_THE_MODEL = sorted(set(STEPS) - {"labels.top_k", "labels.threshold", "labels.abstain", "windows.merge"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("zero\none\ntwo\n")
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "red": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def sample(name: str, folder: Path) -> tuple[Step, Specs, Arrays]:
    options, tensors, _ = CASES[name]
    specs = {key: TensorSpec.parse(key, text) for key, (text, _) in tensors.items()}
    return build_step(name, options, folder), specs, {key: array for key, (_, array) in tensors.items()}


def test_every_step_of_the_table_has_a_case_here() -> None:
    assert sorted(CASES) == sorted(STEPS)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_loads_by_its_name_is_a_step_and_says_what_it_does(name: str, folder: Path) -> None:
    step, _, _ = sample(name, folder)
    assert isinstance(step, Step)
    assert isinstance(step.slow, bool)
    assert step_name(step) == name
    text = inspect.getdoc(type(step)) or ""
    first, _, rest = text.partition("\n\n")
    assert first.endswith(".")
    assert "\n" not in first
    assert rest or name == "table.keep" or name == "table.rename"
    for field in dataclasses.fields(step):  # type: ignore[arg-type]
        assert not field.init or field.name == "input" or f"``{field.name}" in text, field.name


@pytest.mark.parametrize("name", STEPS)
def test_what_a_step_gives_is_what_it_says_it_gives(name: str, folder: Path) -> None:
    step, specs, arrays = sample(name, folder)
    given = step.gives(specs)
    got = step(arrays)
    assert list(got) == list(given)
    fitted = Signature(tuple(given.values()), ()).conform(got)
    assert all(got[key] is fitted[key] for key in got), "a datatype was converted"
    per_row = CASES[name][2]
    assert {len(array) for array in got.values()} == {ROWS * per_row if per_row > 0 else ROWS // -per_row}


@pytest.mark.parametrize("name", BEFORE_THE_MODEL)
def test_what_a_step_takes_is_what_it_needs_to_give_what_was_asked(name: str, folder: Path) -> None:
    step, specs, _ = sample(name, folder)
    asked = step.gives(specs)
    given = step.gives(step.takes(asked))
    assert set(given) >= set(asked)
    for key, spec in asked.items():
        assert given[key].dtype is spec.dtype
        assert len(given[key].shape) == len(spec.shape)
        pairs = zip(given[key].shape, spec.shape, strict=True)
        assert all(a is None or b is None or a == b for a, b in pairs) or name == "table.columns"


@pytest.mark.parametrize("name", sorted(set(STEPS) - {"text.tokenise"}))  # pads to the longest: see test_text
def test_many_rows_at_once_are_each_row_alone(name: str, folder: Path) -> None:
    step, _, arrays = sample(name, folder)
    per_call = 2 if name == "windows.merge" else 1
    together = step(arrays)
    alone = [step({key: array[at : at + per_call] for key, array in arrays.items()}) for at in range(0, ROWS, per_call)]
    for key, array in together.items():
        np.testing.assert_array_equal(array, np.concatenate([part[key] for part in alone]))


@pytest.mark.parametrize("name", STEPS)
def test_a_step_leaves_what_it_was_given_as_it_was(name: str, folder: Path) -> None:
    step, _, arrays = sample(name, folder)
    before = {key: array.copy() for key, array in arrays.items()}
    step(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize("name", STEPS)
def test_python_and_toml_make_the_same_step(name: str, folder: Path) -> None:
    options = {key: str(folder / value) if key in {"labels", "tokenizer"} and isinstance(value, str) else value
               for key, value in CASES[name][0].items()}  # fmt: skip
    in_python = load_plugin("step", STEPS, name)(**options)
    assert in_python == build_step(name, CASES[name][0], folder)


@pytest.mark.parametrize("module", sorted({plugin.target.partition(":")[0] for plugin in STEPS.values()}))
def test_every_public_class_of_a_family_is_in_the_table(module: str) -> None:
    path = Path(__file__).parents[2] / (module.replace(".", "/") + ".py")
    classes = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)}
    listed = {plugin.target.partition(":")[2] for plugin in STEPS.values() if plugin.target.startswith(f"{module}:")}
    assert {name for name in classes if not name.startswith("_")} == listed
