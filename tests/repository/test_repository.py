import os
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from foretell.backends import ModelOptions
from foretell.errors import Setup
from foretell.repository import Repository, find_models, open_pipeline
from foretell.repository.model_folder import ModelSource
from foretell.repository.pipeline_file import read_pipeline_file
from foretell.tensors import Arrays
from tests.backends.graphs import identity, linear, save

ROWS: Arrays = {"x": np.ones((2, 4), np.float32)}
APP = """
import foretell
import numpy as np

@foretell.model(inputs={"x": "FP32[4]"}, outputs={"y": "FP32"})
def model(inputs):
    return {"y": inputs["x"].sum(axis=1)}

pipeline = foretell.Pipeline(model, postprocess=[lambda arrays: {"y": arrays["y"] * np.float32(2)}])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with no pipeline.toml yet."""
    folder = tmp_path / "digits"
    folder.mkdir()
    save(linear(), folder / "model.onnx")
    return folder


def write(folder: Path, text: str) -> Path:
    file = folder / "pipeline.toml"
    file.write_text(text)
    return file


def versions(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        save(linear(), folder / name / "model.onnx")
    return folder


def refusal(path: Path | str, code: str, *words: str) -> None:
    with pytest.raises(Setup) as caught:
        open_pipeline(path)
    assert caught.value.code == code
    for word in words:
        assert word in caught.value.message


def test_a_model_file_is_a_pipeline(folder: Path) -> None:
    pipeline = open_pipeline(folder / "model.onnx")
    assert pipeline(ROWS)["y"].shape == (2, 3)
    assert [(found.name, found.version) for found in find_models([folder / "model.onnx"])] == [("model", "1")]


def test_a_folder_with_a_model_file_is_named_after_the_folder(folder: Path) -> None:
    (found,) = find_models([folder])
    assert (found.name, found.version, found.path) == ("digits", "1", str(folder / "model.onnx"))
    assert open_pipeline(folder)(ROWS)["y"].shape == (2, 3)


def test_steps_of_pipeline_toml_run_around_the_model(folder: Path) -> None:
    write(folder, '[[postprocess]]\nstep = "numbers.softmax"\n')
    plain, soft = open_pipeline(folder / "model.onnx")(ROWS)["y"], open_pipeline(folder)(ROWS)["y"]
    assert not np.array_equal(plain, soft)
    np.testing.assert_allclose(soft.astype(np.float64).sum(axis=-1), [1, 1], rtol=1e-6)


def test_pipeline_toml_itself_may_be_named(folder: Path) -> None:
    assert find_models([write(folder, "")]) == find_models([folder])


def test_files_of_steps_are_looked_up_beside_pipeline_toml(folder: Path) -> None:
    (folder / "labels.txt").write_text("a\nb\nc\n")
    write(folder, '[[postprocess]]\nstep = "labels.top_k"\nk = 1\nlabels = "labels.txt"\n')
    assert open_pipeline(folder).signature.outputs


def test_the_highest_version_is_taken(tmp_path: Path) -> None:
    folder = versions(tmp_path / "digits", "1", "2", "10")
    (folder / "٣٠").mkdir()  # Arabic digits are digits to Python, but no version
    (folder / "011").mkdir()
    (found,) = find_models([folder])
    assert (found.version, found.path) == ("10", str(folder / "10" / "model.onnx"))


@pytest.mark.parametrize(
    ("table", "served"),
    [
        ('policy = "latest"', ["10"]),
        ('policy = "latest"\nkeep = 2', ["9", "10"]),
        ("keep = 5", ["1", "9", "10"]),
        ('policy = "all"', ["1", "9", "10"]),
        ("policy = [9, 1]", ["1", "9"]),
        ("labels = { stable = 10 }", ["10"]),
    ],
)
def test_the_policy_says_which_versions_are_served(table: str, served: list[str], tmp_path: Path) -> None:
    folder = versions(tmp_path / "digits", "1", "9", "10")
    write(folder, f"[versions]\n{table}\n")
    assert [(source.name, source.version) for source in find_models([folder])] == [("digits", version) for version in served]
    (found,) = Repository([folder]).scan()
    assert [*found.passed_over] == [version for version in ("1", "9", "10") if version not in served]


@pytest.mark.parametrize(
    ("table", "code", "words"),
    [
        ("policy = [1, 3]", "wrong_setting", "version 3 is to be served, but there are only 1, 2"),
        ("labels = { stable = 1 }", "wrong_setting", "label 'stable' points at version 1, but those that are served are 2"),
        ("labels = { canary = 7 }", "wrong_setting", "label 'canary' points at version 7"),
        ('labels = { "a/b" = 2 }', "wrong_setting", "'a/b' cannot be a label"),
        ("labels = { stable = true }", "broken_pipeline", "Expected `int`, got `bool`"),
        ('policy = "newest"', "broken_pipeline", "Invalid enum value 'newest'"),
        ("policy = []", "wrong_setting", "at least one"),
        ("policy = [1, 1]", "wrong_setting", "different versions"),
        ("policy = [-1]", "wrong_setting", "version -1 is to be served"),
        ("policy = [99999999999999999999999999]", "wrong_setting", "to be served"),
        ("keep = 0", "wrong_setting", "keep takes a number from 1 on"),
        ('policy = "all"\nkeep = 2', "wrong_setting", "keep takes a number from 1 on, with"),
        ("policies = 1", "broken_pipeline", "[versions] has no key 'policies': did you mean 'policy'?"),
    ],
)
def test_a_mistake_in_the_versions_is_named(table: str, code: str, words: str, tmp_path: Path) -> None:
    file = write(versions(tmp_path / "digits", "1", "2"), f"[versions]\n{table}\n")
    refusal(tmp_path / "digits", code, words, str(file))


def test_several_versions_are_one_model_that_may_be_renamed(tmp_path: Path) -> None:
    folder = versions(tmp_path / "digits", "1", "2")
    write(folder, '[versions]\npolicy = "all"\n')
    assert [(source.name, source.version) for source in find_models([folder], "d")] == [("d", "1"), ("d", "2")]
    assert open_pipeline(folder)(ROWS)["y"].shape == (2, 3)


def test_what_is_wrong_with_one_model_does_not_hide_another(tmp_path: Path) -> None:
    versions(tmp_path / "good", "1")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "labels.txt").write_text("a")
    (versions(tmp_path / "torn", "1") / "2").mkdir()
    (tmp_path / "torn" / "2" / "labels.txt").write_text("a")
    repository = Repository([tmp_path, tmp_path / "gone.onnx"])
    assert {found.name: found.error and found.error.code for found in repository.scan()} == {
        **{"good": None, "half": "unknown_format", "torn": "unknown_format"},
        "gone": "missing_file",
    }
    good = repository.find("good")
    assert good is not None
    assert repository.find("..") is None
    with pytest.raises(Setup, match="holds no model file"):
        repository.find("torn")


def test_a_folder_that_appears_later_is_found(tmp_path: Path) -> None:
    versions(tmp_path / "a", "1")
    repository = Repository([tmp_path])
    assert repository.find("b") is None
    versions(tmp_path / "b", "3")
    found = repository.find("b")
    assert found is not None
    assert found.sources[0].version == "3"


def test_a_saved_model_is_a_folder_that_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "cells" / "1" / "variables").mkdir(parents=True)
    (tmp_path / "cells" / "1" / "saved_model.pb").write_bytes(b"")
    for place in (tmp_path, tmp_path / "cells", tmp_path / "cells" / "1"):
        assert [source.path for source in find_models([place])] == [str(tmp_path / "cells" / "1")]


def test_each_folder_of_a_repository_is_a_model(tmp_path: Path) -> None:
    versions(tmp_path / "b", "1", "3")
    versions(tmp_path / "a", "2")
    for hidden in (".git", "_old"):
        (tmp_path / hidden).mkdir()
    (tmp_path / "README.md").write_text("models")
    assert [(found.name, found.version) for found in find_models([tmp_path])] == [("a", "2"), ("b", "3")]


def test_several_paths_are_taken_in_order(folder: Path, tmp_path: Path) -> None:
    other = versions(tmp_path / "a", "1")
    assert [found.name for found in find_models([folder, other])] == ["digits", "a"]


def test_a_source_that_was_found_is_opened(folder: Path) -> None:
    (source,) = find_models([folder])
    assert isinstance(source, ModelSource)
    assert open_pipeline(source)(ROWS)["y"].shape == (2, 3)


def test_a_pipeline_in_code_is_served_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    assert open_pipeline(f"{tmp_path / 'app.py'}:pipeline")(ROWS)["y"].tolist() == [8, 8]
    (found,) = find_models([f"{tmp_path / 'app.py'}:pipeline"])
    assert found.name == "app"


def test_a_model_in_code_becomes_a_pipeline(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    assert open_pipeline(f"{tmp_path / 'app.py'}:model")(ROWS)["y"].tolist() == [4, 4]


@pytest.mark.parametrize(("attribute", "answer"), [("model", 4), ("pipeline", 8)])
def test_pipeline_toml_may_name_code(attribute: str, answer: int, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    write(tmp_path, f'[model]\nfile = "app.py:{attribute}"\n')
    assert open_pipeline(tmp_path)(ROWS)["y"].tolist() == [answer, answer]


def test_a_whole_pipeline_takes_no_more_steps(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    write(tmp_path, '[model]\nfile = "app.py:pipeline"\n[[postprocess]]\nstep = "numbers.softmax"\n')
    refusal(tmp_path, "broken_pipeline", "is a whole pipeline: remove the steps")


def test_pipeline_toml_wins_over_the_given_options(tmp_path: Path) -> None:
    save(identity(dims=["n", 4]), tmp_path / "model.onnx")
    write(tmp_path, "[model]\nrows = false\n")
    assert not open_pipeline(tmp_path, model_options=ModelOptions(rows=True)).signature.rows
    write(tmp_path, "")
    assert open_pipeline(tmp_path, model_options=ModelOptions(rows=True)).signature.rows


def test_a_pickle_needs_trust_in_its_own_file(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression().fit(np.eye(4), [0, 1, 0, 1]), tmp_path / "model.joblib")
    refusal(tmp_path, "untrusted_model", "trust = true")
    write(tmp_path, "[model]\ntrust = true\n")
    assert str(open_pipeline(tmp_path).signature).startswith("(features FP32 [4])")


def test_the_file_and_backend_may_be_named(tmp_path: Path) -> None:
    save(linear(), tmp_path / "network.bin")
    write(tmp_path, '[model]\nfile = "network.bin"\nbackend = "onnx"\n')
    assert open_pipeline(tmp_path)(ROWS)["y"].shape == (2, 3)


def test_engine_settings_are_kept_for_the_engine(folder: Path) -> None:
    write(folder, 'description = "Digits"\n[engine]\nmax_batch_rows = 8\n')
    (found,) = find_models([folder])
    assert found.config.engine == {"max_batch_rows": 8}
    assert found.config.description == "Digits"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("[modle]\n", "broken_pipeline", ["has no key 'modle': did you mean 'model'?"]),
        ("[model]\ntrsut = true\n", "broken_pipeline", ["[model] has no key 'trsut': did you mean 'trust'?"]),
        ('[model]\ntrust = "yes"\n', "broken_pipeline", ["Expected `bool", "model.trust"]),
        ("model = 3\n", "broken_pipeline", ["Expected `object`, got `int`"]),
        ("[engine]\nmax_batch_row = 8\n", "unknown_setting", ["did you mean 'max_batch_rows'"]),
        ("[engine]\nmax_batch_rows = 0\n", "wrong_setting", ["max_batch_rows", "0"]),
        ("a = \n", "broken_pipeline", ["is not valid TOML", "line 1"]),
        ('[preprocess]\nstep = "image.flatten"\n', "broken_pipeline", ["write [[preprocess]] with two brackets"]),
        ("\n\n[model\n", "broken_pipeline", ["is not valid TOML", "line 3"]),
        ("[[preprocess]]\nk = 1\n", "broken_pipeline", ["[[preprocess]] number 1 names no step"]),
        (
            '[[postprocess]]\nstep = "numbers.sofmax"\n',
            "broken_pipeline",
            ["[[postprocess]] number 1", "did you mean 'numbers.softmax'"],
        ),
        ('[[postprocess]]\nstep = "numbers.softmax"\nhot = 1\n', "broken_pipeline", ["has no option 'hot'"]),
        ('[[postprocess]]\nstep = "labels.top_k"\nk = 1\nlabels = "gone.txt"\n', "missing_file", ["gone.txt"]),
        ('[[preprocess]]\nstep = "numbers.argmax"\n', "broken_pipeline", []),
        ('[model]\nfile = "gone.onnx"\n', "missing_file", ["gone.onnx", "correct [model] file"]),
        ('[model]\nfile = "../other.onnx"\n', "outside_folder", ["leads out of"]),
        ('[model]\nfile = "/etc/hostname"\n', "outside_folder", ["leads out of"]),
        ('[model]\nbackend = "onxx"\n', "broken_pipeline", ["did you mean 'onnx'"]),
    ],
)
def test_a_mistake_in_pipeline_toml_is_named(text: str, code: str, words: list[str], folder: Path) -> None:
    save(linear(), folder.parent / "other.onnx")
    file = write(folder, text)
    refusal(folder, code, *words)
    if code != "outside_folder":
        refusal(folder, code, str(file))


def test_options_for_a_runtime_that_reads_none_are_refused(folder: Path) -> None:
    write(folder, "[model.options]\nhot = 1\n")
    refusal(folder, "wrong_setting", ": remove hot")


def test_toml_that_is_not_utf8_is_refused(folder: Path) -> None:
    (folder / "pipeline.toml").write_bytes(b'description = "\xff"')
    refusal(folder, "broken_pipeline", "is not valid TOML")


def test_a_folder_without_pipeline_toml_has_the_defaults(tmp_path: Path) -> None:
    assert read_pipeline_file(tmp_path).options_over(ModelOptions()) == ModelOptions()


def test_nothing_at_the_path_is_said(tmp_path: Path) -> None:
    refusal(tmp_path / "none", "missing_file", "there is no model at")
    refusal(f"{tmp_path / 'none.py'}:model", "missing_file", "none.py")


def test_an_empty_folder_says_what_to_put_in_it(tmp_path: Path) -> None:
    refusal(tmp_path, "unknown_format", "holds no models: put them in it as <name>/<version>/model.onnx")


def test_a_folder_of_a_repository_without_a_model_is_named(tmp_path: Path) -> None:
    versions(tmp_path / "a", "1")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("read me")
    refusal(tmp_path, "unknown_format", str(tmp_path / "docs"), "holds no model")


def test_a_version_without_a_model_is_named(tmp_path: Path) -> None:
    (versions(tmp_path / "a", "1") / "2").mkdir()
    (tmp_path / "a" / "2" / "labels.txt").write_text("a")
    refusal(tmp_path / "a", "unknown_format", f"{tmp_path / 'a' / '2'} holds no model file")


def test_a_folder_that_is_still_empty_is_passed_over(tmp_path: Path) -> None:
    (versions(tmp_path / "a", "1") / "2").mkdir()
    (tmp_path / "a" / "2" / ".model.onnx.part").touch()
    (tmp_path / "b" / "1").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    assert [(source.name, source.version) for source in find_models([tmp_path])] == [("a", "1")]
    a, b, c = Repository([tmp_path]).scan()
    assert (a.passed_over, b.passed_over) == ({"2": "incomplete: it is empty"}, {"1": "incomplete: it is empty"})
    assert c.error is not None
    assert c.error.code == "incomplete"
    refusal(tmp_path / "b", "incomplete", "has no version that is whole: incomplete: it is empty")


def test_several_model_files_need_a_choice(folder: Path) -> None:
    os.rename(folder / "model.onnx", folder / "a.onnx")
    save(linear(), folder / "b.onnx")
    refusal(folder, "unknown_format", "holds several models (a.onnx, b.onnx)", "[model] file")


def test_a_repository_is_not_one_pipeline(tmp_path: Path) -> None:
    versions(tmp_path / "a", "1")
    versions(tmp_path / "b", "1")
    refusal(tmp_path, "unknown_format", "holds 2 models: name one of a, b")


@pytest.mark.parametrize("name", ["model.zip", "model"])
def test_a_file_of_no_known_kind_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("x")
    refusal(tmp_path / name, "unknown_format", "known are ", ".joblib", ".onnx", ".pickle, .pkl")


def test_code_without_an_attribute_says_how_to_name_one(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    refusal(tmp_path / "app.py", "unknown_format", "app.py:pipeline")


def test_links_out_of_a_folder_are_not_followed(tmp_path: Path) -> None:
    outside = versions(tmp_path / "outside", "1")
    repository = versions(tmp_path / "models" / "a", "1").parent
    (repository / "b").symlink_to(outside)
    refusal(repository, "outside_folder", str(repository / "b"))
    (repository / "b").unlink()
    (repository / "a" / "2").symlink_to(outside / "1")
    refusal(repository, "outside_folder", str(repository / "a" / "2"))
    (repository / "a" / "2").unlink()
    (repository / "a" / "1" / "model.onnx").unlink()
    (repository / "a" / "1" / "model.onnx").symlink_to(outside / "1" / "model.onnx")
    refusal(repository, "outside_folder", "model.onnx")


def test_a_link_that_the_operator_names_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to(folder / "model.onnx")
    assert open_pipeline(tmp_path / "link.onnx")(ROWS)["y"].shape == (2, 3)


@pytest.mark.parametrize("name", ["my model", "-a", ".a", "a/b", "é", "", "a" * 129, "a\n", ".."])
def test_a_name_of_other_characters_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(Setup, match="cannot be a model's name") as caught:
        find_models([folder], name)
    assert caught.value.code == "wrong_name"


@pytest.mark.parametrize("name", ["a", "A-b_c.1", "9", "a" * 128])
def test_a_name_may_be_given(name: str, folder: Path) -> None:
    assert [found.name for found in find_models([folder], name)] == [name]


def test_one_name_is_for_one_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Setup, match="is for one model, but the paths name 2"):
        find_models([folder, versions(tmp_path / "a", "1")], "x")


def test_two_models_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Setup, match="are both named 'digits': rename one") as caught:
        find_models([folder, versions(tmp_path / "other" / "digits", "1")])
    assert caught.value.code == "wrong_name"
