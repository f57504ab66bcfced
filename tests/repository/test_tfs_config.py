"""models.config, and the folders of TensorFlow Serving with ONNX in them."""

import logging
from pathlib import Path

import numpy as np
import pytest

from foretell.errors import Setup
from foretell.repository import Repository, find_models, open_pipeline
from tests.backends.graphs import linear, save

CONFIG = """
model_config_list {
  config {
    name: 'digits'
    base_path: '%s/numbers'
    model_platform: 'tensorflow'
    model_version_policy { specific { versions: 1 versions: 3 } }
    version_labels { key: 'stable' value: 1 }
    version_labels { key: 'canary' value: 3 }
  }
  config: { name: "letters" base_path: "letters" model_platform: "onnx" }
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, versions in (("numbers", "123"), ("letters", "45")):
        for version in versions:
            (tmp_path / name / version).mkdir(parents=True)
            save(linear(), tmp_path / name / version / "model.onnx")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    file = folder / "models.config"
    file.write_text(text)
    return file


def refusal(file: Path, code: str, *words: str) -> None:
    with pytest.raises(Setup) as caught:
        find_models([file])
    assert caught.value.code == code
    for word in words:
        assert word in caught.value.message


def test_names_paths_versions_and_labels_are_read(folder: Path) -> None:
    sources = find_models([write(folder, CONFIG % folder)])
    assert [(source.name, source.version) for source in sources] == [("digits", "1"), ("digits", "3"), ("letters", "5")]
    assert sources[0].config.versions.labels == {"stable": 1, "canary": 3}
    assert open_pipeline(sources[0])({"x": np.ones((2, 4), np.float32)})["y"].shape == (2, 3)


def test_a_base_folder_alone_is_a_model(folder: Path) -> None:
    assert [(source.name, source.version) for source in find_models([folder / "letters"])] == [("letters", "5")]


def test_steps_may_stand_beside_the_versions(folder: Path) -> None:
    (folder / "letters" / "pipeline.toml").write_text('[[postprocess]]\nstep = "numbers.softmax"\n')
    (_, _, letters) = find_models([write(folder, CONFIG % folder)])
    assert len(open_pipeline(letters).postprocess) == 1


def test_a_saved_model_is_found_as_the_folder_that_it_is(folder: Path) -> None:
    (folder / "letters" / "5" / "saved_model.pb").touch()
    paths = [source.path for source in find_models([write(folder, CONFIG % folder)])]
    assert paths[-1] == str(folder / "letters" / "5")


def test_what_has_no_effect_is_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "foretell"):
        find_models([write(folder, 'model_config_list { config { name: "a" base_path: "letters" logging_config { } } }')])
    assert "line 1: logging_config has no effect here" in caplog.text


def one(more: str) -> str:
    return f"model_config_list {{ config {{ {more} }} }}"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "broken_config", ["this is no models.config"]),
        ("custom_model_config { }", "broken_config", ["this is no models.config"]),
        ("model_config_list { }", "broken_config", ["names no model"]),
        (one('name: "a"'), "broken_config", ["needs both name and base_path"]),
        (one('name: "a" base_path: "gone"'), "missing_file", ["base_path of 'a'", "which is not a folder"]),
        (one('name: "a" base_path: "s3://bucket/a"'), "unsupported_config", ["'s3://bucket/a'", "copy the models"]),
        (one('name: "a" base_path: "a\\000b"'), "unsupported_config", ["not a folder of this machine"]),
        (one(f'name: "a" base_path: "{"a" * 5000}"'), "missing_file", ["File name too long"]),
        (one('name: "../a" base_path: "letters"'), "wrong_name", ["'../a'", "cannot be a model's name"]),
        (one('name: "a" base_path: "letters" version_labels { key: "x" value: 4 }'), "wrong_setting", ["label 'x'", "are 5"]),
        (one('name: "a" base_path: "letters" version_labels { key: "x" }'), "broken_config", ["takes a key and a value"]),
        (one('name: "a" base_path: "letters" version_labels { key: "" value: 5 }'), "wrong_setting", ["cannot be a label"]),
        (
            one('name: "a" base_path: "letters" model_version_policy { latest { num_versions: -1 } }'),
            "broken_config",
            ["from 1"],
        ),
        (
            'model_config_list { config { name: "a" base_path: "letters" } config { name: "a" base_path: "numbers" } }',
            "wrong_name",
            ["are both named 'a'"],
        ),
        ("model_config_list {" * 100_000, "broken_config", ["line 1"]),
    ],
)
def test_a_mistake_is_named(text: str, code: str, words: list[str], folder: Path) -> None:
    refusal(write(folder, text), code, *words)


def test_a_label_on_a_version_that_is_not_served_is_blamed_on_the_file_that_has_it(folder: Path) -> None:
    text = (CONFIG % folder).replace("key: 'canary' value: 3", "key: 'canary' value: 2")
    refusal(write(folder, text), "wrong_setting", "label 'canary' points at version 2", "models.config, versions: ")


def test_exact_versions_of_a_config_keep_those_of_its_labels_that_point_at_them(folder: Path) -> None:
    found = Repository([write(folder, CONFIG % folder)]).find("digits", only=["2", "3"])
    assert found is not None
    assert [(source.name, source.version) for source in found.sources] == [("digits", "2"), ("digits", "3")]
    assert found.sources[0].config.versions.labels == {"canary": 3}
