import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell import steps
from foretell.errors import Setup
from foretell.steps import STEPS, build_step, derive, pick, swap
from foretell.tensors import Datatype, TensorSpec


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("image.decod", {}, "did you mean 'image.decode'"),
        ("image.decode", {"mod": "L"}, "did you mean 'mode'"),
        ("image.decode", {"mode": "GREY"}, "option 'mode': it must be one of 'RGB', 'L', 'RGBA', not 'GREY'"),
        ("numbers.cast", {"datatype": "FP46"}, "option 'datatype': it must be one of 'BOOL', 'UINT8'"),
        ("numbers.cast", {"datatype": "FP32", "source": "FP46"}, "option 'source': it must be one of 'BOOL', 'UINT8'"),
        ("image.resize", {"height": 8}, "needs its option 'width'"),
        ("image.resize", {"height": "8", "width": 8}, "option 'height': Expected `int`, got `str`"),
        ("image.normalise", {"_mean": 1}, "no option '_mean'"),
    ],
)
def test_a_wrong_option_is_refused_naming_the_step_and_the_cure(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(Setup, match=name) as caught:
        build_step(name, options, Path())
    assert said in caught.value.message


def test_a_file_is_looked_up_from_the_folder_of_pipeline_toml(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    step = build_step("labels.decode", {"labels": "labels.txt"}, tmp_path)
    assert list(step({"x": np.array([1, 0])})["x"]) == [b"dog", b"cat"]


def test_labels_may_stand_in_pipeline_toml_itself() -> None:
    step = build_step("labels.decode", {"labels": ["cat", "dog"]}, Path("/nowhere"))
    assert list(step({"x": np.array([1, 0])})["x"]) == [b"dog", b"cat"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("labels.decode", {"labels": "gone.txt"}),
        ("text.tokenise", {"tokenizer": "gone.json"}),
        ("table.standardise", {"statistics": "gone.json"}),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_option(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Setup) as caught:
        build_step(name, options, tmp_path)
    assert caught.value.code == "missing_file"
    assert name in caught.value.message
    assert str(tmp_path / next(iter(options.values()))) in caught.value.message
    assert f"correct {next(iter(options))} = " in caught.value.message


def test_a_family_is_an_attribute_of_steps_and_another_name_is_not() -> None:
    assert steps.image is importlib.import_module("foretell.steps.image")
    with pytest.raises(AttributeError, match="no step family 'video'"):
        _ = steps.video


def test_a_step_of_several_tensors_must_be_told_which() -> None:
    step = build_step("numbers.softmax", {}, Path())
    specs = {name: TensorSpec(name, Datatype.FP32, (3,)) for name in ("a", "b")}
    with pytest.raises(Setup, match="input = one of 'a', 'b'"):
        step.gives(specs)
    with pytest.raises(Setup, match="no tensor 'logit'"):
        pick(step, {"logits": 1}, "logit")


def test_new_tensors_stand_in_the_place_of_the_old_and_never_overwrite_another() -> None:
    tensors = {"a": 1, "b": 2, "c": 3}
    assert list(swap(None, tensors, ["b"], {"x": 4, "y": 5})) == ["a", "x", "y", "c"]
    assert list(swap(None, tensors, [], {"x": 4})) == ["a", "b", "c", "x"]
    assert swap(None, tensors, ["a"], {"a": 4}) == {"a": 4, "b": 2, "c": 3}
    with pytest.raises(Setup, match="already is a tensor 'c'"):
        swap(None, tensors, ["a"], {"c": 4})


def test_a_step_does_not_change_once_it_is_made() -> None:
    step: Any = build_step("image.crop", {"height": 1, "width": 1}, Path())
    with pytest.raises(AttributeError):
        step.height = 2
    derive(step, height=3)
    assert step.height == 3


def test_the_table_names_the_extra_of_every_step_that_needs_one() -> None:
    extras = {name: plugin.extra for name, plugin in STEPS.items() if plugin.extra}
    assert extras == {"image.decode": "images", "image.resize": "images", "text.tokenise": "text"}


@pytest.mark.parametrize(
    ("module", "name", "options", "extra"),
    [
        ("PIL.Image", "image.decode", {}, "images"),
        ("PIL.Image", "image.resize", {"height": 8, "width": 8}, "images"),
        ("tokenizers", "text.tokenise", {"tokenizer": "tokenizer.json"}, "text"),
    ],
)
def test_a_missing_package_is_told_at_start_with_the_line_to_type(
    module: str, name: str, options: dict[str, Any], extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Setup, match=f"'{name}' needs the package") as caught:
        build_step(name, options, tmp_path)
    assert caught.value.code == "missing_extra"
    assert f"pip install 'foretell[{extra}]'" in caught.value.message
