"""What an engine is made from, what may change beside it, and what a look sees."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from foretell.errors import Setup
from foretell.repository import Repository, find_models
from foretell.repository.files import Ingredients, count_bytes, disk_bytes, fingerprint, ingredients, look
from tests.backends.graphs import linear, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    (folder / "1" / "parts").mkdir(parents=True)
    save(linear(), folder / "1" / "model.onnx")
    (folder / "1" / "parts" / "weights.bin").write_bytes(b"x" * 1000)
    (folder / "pipeline.toml").write_text("")
    (folder / "labels.txt").write_text("a")
    return folder


def made(folder: Path) -> Ingredients:
    (found,) = Repository([folder]).scan()
    (source,) = found.sources
    return ingredients(source)


def seen(folder: Path) -> object:
    (found,) = Repository([folder]).scan()
    return look(found)


def toml(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "pipeline.toml").write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "1" / "parts" / "weights.bin").write_bytes(b"y" * 1000),
        lambda folder: (folder / "1" / "model.onnx").touch(),
        lambda folder: (folder / "1" / "_private.py").touch(),
        lambda folder: (folder / "1" / "parts" / "__init__.py").touch(),
        lambda folder: (folder / "labels.txt").write_text("b"),
        lambda folder: (folder / "labels.txt").unlink(),
        lambda folder: (folder / "1" / "SHA256SUMS").touch(),
        toml("[engine]\nmax_batch_rows = 3"),
        toml("[model]\nthreads = 2"),
        toml('[[postprocess]]\nstep = "numbers.softmax"'),
    ],
)
def test_a_change_of_what_an_engine_is_made_from_is_seen(change: Callable[[Path], object], folder: Path) -> None:
    before, looked = made(folder), seen(folder)
    change(folder)
    assert made(folder) != before
    assert seen(folder) != looked


@pytest.mark.parametrize(
    "change",
    [
        toml("[versions]\nlabels = { stable = 1 }\ntraffic = { 1 = 2 }"),
        toml("[model]\npin = true"),
        toml('description = "Digits"'),
        toml("# a remark"),
    ],
)
def test_labels_traffic_and_pins_are_no_part_of_an_engine_but_are_seen(change: Callable[[Path], object], folder: Path) -> None:
    before, looked = made(folder), seen(folder)
    change(folder)
    assert made(folder) == before
    assert seen(folder) != looked


@pytest.mark.parametrize("name", ["1/.model.onnx.Xq3", "1/model.onnx.part", "1/__pycache__/a.pyc", "labels.txt~", ".hidden"])
def test_what_is_hidden_or_half_written_is_no_part_of_an_engine(name: str, folder: Path) -> None:
    before = made(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    assert made(folder) == before


def test_a_version_that_goes_meanwhile_is_a_refusal(folder: Path) -> None:
    (found,) = Repository([folder]).scan()
    os.rename(folder, folder.parent / "gone")
    with pytest.raises(Setup, match="is gone or cannot be read") as caught:
        fingerprint(found.sources[0])
    assert caught.value.code == "missing_file"


def test_a_version_is_as_large_as_its_files(folder: Path) -> None:
    (found,) = Repository([folder]).scan()
    assert count_bytes(found.sources[0]) == 1000 + (folder / "1" / "model.onnx").stat().st_size
    (alone,) = Repository([folder / "1" / "model.onnx"]).scan()
    assert count_bytes(alone.sources[0]) == (folder / "1" / "model.onnx").stat().st_size


@pytest.mark.parametrize(
    ("own", "beside", "is_of_it"),
    [
        ("model.onnx", "model.onnx.data", True),
        ("model.onnx", "log.txt", False),
        ("app.py:model", "parts.py", True),
        ("app.py:model", "log.txt", False),
    ],
)
def test_what_lies_beside_a_model_that_was_named_itself_may_be_others(
    own: str, beside: str, is_of_it: bool, tmp_path: Path
) -> None:
    (tmp_path / own.partition(":")[0]).write_text("")
    (found,) = Repository([tmp_path / own]).scan()
    before = ingredients(found.sources[0])
    (tmp_path / beside).write_text("a line")
    assert (ingredients(found.sources[0]) != before) is is_of_it


def size_of(path: Path) -> int:
    (source,) = find_models([path])
    return disk_bytes(source)


def test_the_size_on_disk_is_that_of_a_file_with_its_data_and_not_of_what_else_lies_there(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_bytes(b"<net name='m'/>")
    (tmp_path / "m.bin").write_bytes(b"x" * 1000)
    save(linear(), tmp_path / "m.onnx")
    assert size_of(tmp_path / "m.xml") == 1015
    assert size_of(tmp_path / "m.onnx") == (tmp_path / "m.onnx").stat().st_size


def test_the_size_on_disk_of_external_data_counts(tmp_path: Path) -> None:
    import onnx

    onnx.save(linear(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert size_of(tmp_path / "m.onnx") == sum((tmp_path / name).stat().st_size for name in ("m.onnx", "m.data"))


def test_the_size_on_disk_of_a_folder_is_that_of_all_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    (folder / "onnx").mkdir(parents=True)
    for name in ("tokenizer.json", "config.json", "onnx/model.onnx"):
        (folder / name).write_bytes(b"x" * 100)
    assert size_of(folder) == 300
