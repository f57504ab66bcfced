"""A Triton model repository, served as it is: real ONNX models under their config.pbtxt."""

import logging
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from foretell.errors import Setup
from foretell.repository import find_models, open_pipeline
from foretell.repository.model_folder import MOST_DEPTH
from foretell.tensors import Arrays
from tests.backends.graphs import build, identity, linear, save, tensor

ROWS: Arrays = {"x": np.ones((2, 4), np.float32)}
SERVED = 'platform: "onnxruntime_onnx" max_batch_size: 8\n'
X = 'input { name: "x" data_type: TYPE_FP32 dims: 4 }\n'
Y = 'output { name: "y" data_type: TYPE_FP32 dims: 3 }\n'


def place(repository: Path, name: str, config: str | bytes, model: object = None, version: str = "1") -> Path:
    """A model of a Triton repository; an ensemble has no model, but a version's folder."""
    folder = repository / name
    (folder / version).mkdir(parents=True)
    (folder / "config.pbtxt").write_bytes(config.encode() if isinstance(config, str) else config)
    if model is not None:
        save(model, folder / version / "model.onnx")
    return folder


def two_outputs() -> object:
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["minus"])]
    return build(nodes, [tensor("x", ["n", "m"])], [tensor("y", ["n", "m"]), tensor("minus", ["n", "m"])])


def refusal(path: Path, code: str, *words: str) -> None:
    with pytest.raises(Setup) as caught:
        open_pipeline(path)
    assert caught.value.code == code
    for word in words:
        assert word in caught.value.message


def test_a_model_is_served_as_its_config_says(tmp_path: Path) -> None:
    place(tmp_path, "digits", SERVED + X + Y + "dynamic_batching { max_queue_delay_microseconds: 100 }", linear())
    (source,) = find_models([tmp_path])
    assert (source.name, source.version, source.config.engine) == ("digits", "1", {"max_batch_rows": 8, "max_wait_s": 0.0001})
    pipeline = open_pipeline(source)
    assert str(pipeline.signature) == "(x FP32 [4]) -> (y FP32 [3])"
    assert pipeline(ROWS)["y"].shape == (2, 3)


def test_without_a_batch_size_shapes_are_whole(tmp_path: Path) -> None:
    place(tmp_path, "digits", 'input { name: "x" data_type: TYPE_FP32 dims: [-1, 4] }', linear())
    pipeline = open_pipeline(tmp_path)
    assert not pipeline.signature.rows
    assert pipeline.signature.inputs[0].shape == (None, 4)


def test_some_outputs_and_narrower_shapes_may_be_listed(tmp_path: Path) -> None:
    config = SERVED + X + 'output { name: "minus" data_type: TYPE_FP32 dims: 4 }'
    place(tmp_path, "digits", config, two_outputs())
    pipeline = open_pipeline(tmp_path)
    assert str(pipeline.signature) == "(x FP32 [4]) -> (minus FP32 [4])"
    assert {name: array.tolist() for name, array in pipeline(ROWS).items()} == {"minus": [[-1] * 4] * 2}


def test_tensors_may_be_reshaped(tmp_path: Path) -> None:
    config = """
    max_batch_size: 8
    input { name: "x" data_type: TYPE_FP32 dims: [2, 2] reshape { shape: 4 } }
    output { name: "y" data_type: TYPE_FP32 dims: [1, 3] reshape { shape: [3] } }
    """
    place(tmp_path, "digits", config, linear())
    pipeline = open_pipeline(tmp_path)
    assert str(pipeline.signature) == "(x FP32 [2, 2]) -> (y FP32 [1, 3])"
    assert pipeline({"x": np.ones((5, 2, 2), np.float32)})["y"].shape == (5, 1, 3)


def test_labels_of_an_output_are_kept(tmp_path: Path) -> None:
    config = SERVED + 'output { name: "y" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }'
    folder = place(tmp_path, "digits", config, linear())
    (folder / "labels.txt").write_text("null\neins\r\nzwei\n")
    assert open_pipeline(folder).labels == {"y": ["null", "eins", "zwei"]}
    (folder / "labels.txt").write_bytes(b"\xff")
    refusal(folder, "broken_config", "labels.txt", "not UTF-8")
    (folder / "labels.txt").unlink()
    refusal(folder, "broken_config", "cannot be read", "No such file")
    (folder / "labels.txt").symlink_to("/etc/hostname")
    refusal(folder, "outside_folder", "labels.txt")


@pytest.mark.parametrize("name", ["../labels.txt", "/etc/hostname", "a\\000b", "a" * 5000, "1"])
def test_a_labels_file_of_a_hostile_name_is_refused(name: str, tmp_path: Path) -> None:
    config = SERVED + f'output {{ name: "y" data_type: TYPE_FP32 dims: 3 label_filename: "{name}" }}'
    folder = place(tmp_path, "digits", config, linear())
    with pytest.raises(Setup) as caught:
        open_pipeline(folder)
    assert caught.value.code in {"broken_config", "outside_folder"}


def test_the_version_policy_is_kept_to(tmp_path: Path) -> None:
    folder = place(tmp_path, "digits", "version_policy { specific { versions: [1, 3] } }", linear())
    for version in ("2", "3"):
        (folder / version).mkdir()
        save(linear(), folder / version / "model.onnx")
    assert [source.version for source in find_models([tmp_path])] == ["1", "3"]


def test_a_folder_named_like_the_model_may_hold_it(tmp_path: Path) -> None:
    inner = place(tmp_path, "digits", SERVED) / "1" / "model.onnx"
    inner.mkdir()
    save(linear(), inner / "model.onnx")
    assert open_pipeline(tmp_path)(ROWS)["y"].shape == (2, 3)


def test_what_has_no_effect_is_logged_when_it_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place(tmp_path, "digits", SERVED + 'parameters { key: "a" value { string_value: "b" } }', linear())
    with caplog.at_level(logging.INFO, "foretell"):
        open_pipeline(tmp_path)
    assert "line 2: parameters has no effect here" in caplog.text


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SERVED + 'input { name: "z" data_type: TYPE_FP32 dims: 4 }', ["line 2", "no tensor 'z'", "it has x"]),
        (SERVED + 'input { name: "x" data_type: TYPE_INT64 dims: 4 }', ["'x' is declared as INT64", "has FP32"]),
        (SERVED + 'input { name: "x" data_type: TYPE_FP32 dims: 5 }', ["declared as [5] after the row axis", "has [4]"]),
        (SERVED + 'input { name: "x" data_type: TYPE_FP32 dims: -1 }', ["declared as [?]", "has [4]"]),
        (SERVED + 'input { name: "x" data_type: TYPE_FP32 dims: [1, 4] }', ["declared as [1, 4]", "has [4]"]),
        (SERVED + 'output { name: "q" data_type: TYPE_FP32 dims: 3 }', ["no tensor 'q'", "it has y"]),
        ('input { name: "x" data_type: TYPE_FP32 dims: 4 }', ["declared as [4]", "has [?, 4]"]),
    ],
)
def test_what_the_model_does_not_have_is_named_with_both_sides(config: str, words: list[str], tmp_path: Path) -> None:
    place(tmp_path, "digits", config, linear())
    refusal(tmp_path, "broken_config", "config.pbtxt", *words)


def test_an_input_that_is_left_out_is_named(tmp_path: Path) -> None:
    both = build(
        [helper.make_node("Add", ["x", "z"], ["y"])], [tensor("x", ["n", 4]), tensor("z", ["n", 4])], [tensor("y", ["n", 4])]
    )
    place(tmp_path, "digits", SERVED + X, both)
    refusal(tmp_path, "broken_config", "lists no input 'z'")


def test_a_batch_size_for_a_model_without_rows_is_named(tmp_path: Path) -> None:
    place(tmp_path, "digits", SERVED, identity(dims=[]))
    refusal(tmp_path, "broken_config", "max_batch_size is 8", "write max_batch_size: 0")


def test_a_version_without_a_model_is_named_with_what_it_holds(tmp_path: Path) -> None:
    folder = place(tmp_path, "digits", SERVED)
    (folder / "1" / "model.plan").touch()
    refusal(tmp_path, "unknown_format", "holds no model.onnx, but model.plan")


def test_two_configurations_are_one_too_many(tmp_path: Path) -> None:
    (place(tmp_path, "digits", SERVED, linear()) / "pipeline.toml").touch()
    refusal(tmp_path, "broken_config", "both pipeline.toml and config.pbtxt")


@pytest.mark.parametrize("config", [b"input {" * 100_000, b'name: "\xff"', b"max_batch_size: " + b"9" * 10_000, b"\0" * 100])
def test_a_hostile_config_is_refused(config: bytes, tmp_path: Path) -> None:
    place(tmp_path, "digits", config, linear())
    refusal(tmp_path, "broken_config", "config.pbtxt, line 1")


def step(model: str, takes: str, gives: str, version: int = -1) -> str:
    return (
        f'step {{ model_name: "{model}" model_version: {version} '
        f'input_map {{ key: "x" value: "{takes}" }} output_map {{ key: "y" value: "{gives}" }} }}\n'
    )


def ensemble(*steps: str, x: int = 4, y: int = 3) -> str:
    tensors = f'input {{ name: "IN" data_type: TYPE_FP32 dims: {x} }} output {{ name: "OUT" data_type: TYPE_FP32 dims: {y} }}'
    return f'platform: "ensemble" max_batch_size: 8 {tensors} ensemble_scheduling {{\n{"".join(steps)} }}'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two models to make ensembles of: ``first`` gives what ``second`` takes."""
    place(tmp_path, "first", SERVED, linear(features=4, classes=5))
    place(tmp_path, "second", SERVED, linear(features=5, classes=3))
    return tmp_path


def test_an_ensemble_runs_its_models_in_the_order_of_the_data(repository: Path) -> None:
    both = place(repository, "both", ensemble(step("second", "MID", "OUT"), step("first", "IN", "MID")))
    assert [source.name for source in find_models([repository])] == ["both", "first", "second"]
    pipeline = open_pipeline(both)
    assert str(pipeline.signature) == "(IN FP32 [4]) -> (OUT FP32 [3])"
    middle = open_pipeline(repository / "first")(ROWS)["y"]
    wanted = open_pipeline(repository / "second")({"x": middle})["y"]
    np.testing.assert_array_equal(pipeline({"IN": ROWS["x"]})["OUT"], wanted)


def test_an_ensemble_may_be_a_step_and_has_the_labels_of_its_members(repository: Path) -> None:
    config = SERVED + 'output { name: "y" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }'
    (repository / "second" / "config.pbtxt").write_text(config)
    (repository / "second" / "labels.txt").write_text("a\nb\nc")
    place(repository, "both", ensemble(step("first", "IN", "MID"), step("second", "MID", "OUT")))
    outer = 'step { model_name: "both" input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" } }'
    pipeline = open_pipeline(place(repository, "outer", ensemble(outer)))
    assert pipeline({"IN": ROWS["x"]})["OUT"].shape == (2, 3)
    assert pipeline.labels == {"OUT": ["a", "b", "c"]}


def test_a_model_of_our_own_form_may_be_a_member(repository: Path) -> None:
    folder = repository / "plain"
    folder.mkdir()
    save(linear(features=4, classes=3), folder / "model.onnx")
    both = place(repository, "both", ensemble(step("plain", "IN", "OUT")))
    assert open_pipeline(both)({"IN": ROWS["x"]})["OUT"].shape == (2, 3)
    (folder / "pipeline.toml").write_text('[[postprocess]]\nstep = "numbers.softmax"\n')
    refusal(both, "unsupported_config", "'plain' has steps of its own")


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        (ensemble(step("third", "IN", "OUT")), "broken_config", ["line 2", "no model 'third' beside this one"]),
        (ensemble(step("../first", "IN", "OUT")), "broken_config", ["no model '../first'"]),
        (ensemble(step("..", "IN", "OUT")), "broken_config", ["no model '..'"]),
        (ensemble(step("", "IN", "OUT")), "broken_config", ["names no model"]),
        (ensemble(step("a\\000b", "IN", "OUT")), "broken_config", ["no model"]),
        (ensemble(step("a" * 9000, "IN", "OUT")), "broken_config", ["no model"]),
        (ensemble(step("both", "IN", "OUT")), "broken_config", ["both -> both is a circle"]),
        (ensemble(step("first", "IN", "OUT", 7), y=5), "broken_config", ["version 7 is not served, but 1"]),
        (ensemble(step("first", "IN", "OUT")), "broken_config", ["'OUT' is made as FP32 [?, 5], but taken as FP32 [?, 3]"]),
        (ensemble(step("second", "IN", "OUT")), "broken_config", ["'second': tensor 'IN'", "taken as FP32 [?, 5]"]),
        (ensemble(step("second", "A", "OUT"), step("first", "IN", "B")), "broken_config", ["nothing makes the tensor 'A'"]),
        (
            'platform: "ensemble" ensemble_scheduling { ' + step("first", "IN", "OUT") + "}",
            "broken_config",
            ["lists its input"],
        ),
        (ensemble(*[step("first", "IN", f"T{i}") for i in range(300)]), "broken_config", ["1 to 256 steps, not 300"]),
    ],
)
def test_an_ensemble_that_cannot_run_is_refused(config: str, code: str, words: list[str], repository: Path) -> None:
    refusal(place(repository, "both", config), code, "config.pbtxt", *words)


def test_ensembles_in_one_another_are_bounded(repository: Path) -> None:
    inner = 'step { model_name: "%s" input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" } }'
    place(repository, "e0", ensemble(step("first", "IN", "MID"), step("second", "MID", "OUT")))
    for number in range(1, MOST_DEPTH + 3):
        place(repository, f"e{number}", ensemble(inner % f"e{number - 1}"))
    assert open_pipeline(repository / "e2")({"IN": ROWS["x"]})["OUT"].shape == (2, 3)
    refusal(repository / f"e{MOST_DEPTH + 2}", "broken_config", "ensembles in one another")


def test_models_of_an_ensemble_are_counted_over_all_depths(repository: Path) -> None:
    wide = [step("first", "IN", "OUT" if i == 0 else f"T{i}") for i in range(200)]
    place(repository, "wide", ensemble(*wide, y=5))
    inner = 'step { model_name: "wide" input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "%s" } }'
    refusal(
        place(repository, "wider", ensemble(inner % "OUT", inner % "B", y=5)), "broken_config", "more than 256 models in all"
    )


def test_a_circle_of_two_ensembles_is_refused(repository: Path) -> None:
    place(repository, "a", ensemble(step("b", "IN", "OUT")))
    place(repository, "b", ensemble(step("a", "IN", "OUT")))
    refusal(repository / "a", "broken_config", "a -> b -> a is a circle")


def test_a_member_that_is_a_link_out_of_the_repository_is_refused(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = place(tmp_path_factory.mktemp("outside"), "other", SERVED, linear())
    (repository / "other").symlink_to(outside)
    refusal(place(repository, "both", ensemble(step("other", "IN", "OUT"))), "outside_folder", "other")
