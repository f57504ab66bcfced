"""A variant as a folder: its files, its steps and its pipeline.toml."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from foretell.errors import Setup
from foretell.optimize.tune.bundle import gather, write_toml
from foretell.optimize.tune.space import Candidate
from foretell.optimize.tune.variants import open_variant
from foretell.repository import find_models
from tests.backends.graphs import linear, save

SCALARS = some.one_of(some.booleans(), some.integers(-(2**40), 2**40), some.floats(allow_nan=False), some.text(max_size=20))
TABLES = some.dictionaries(
    some.text(min_size=1, max_size=8),
    some.recursive(
        SCALARS,
        lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(min_size=1, max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@given(
    some.dictionaries(
        some.sampled_from(["description", "model", "engine", "preprocess"]),
        some.one_of(SCALARS, TABLES, some.lists(TABLES, min_size=1, max_size=3)),
        max_size=4,
    )
)
def test_tables_are_read_back_as_they_were_written(table: dict[str, Any]) -> None:
    assert tomllib.loads(write_toml(table)) == {key: value for key, value in table.items() if value != {}}


def test_a_model_file_comes_with_its_data_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("net.xml", "net.bin", "other.bin", "secret.txt"):
        (tmp_path / "there" / name).write_bytes(b'<?xml version="1.0"?><net name="x"></net>')
    (source,) = find_models([tmp_path / "there" / "net.xml"])
    bundle = gather(source, tmp_path / "copy")
    assert {each.name for each in bundle.folder.iterdir()} == {"net.xml", "net.bin"}
    assert bundle.table == {"model": {"file": "net.xml"}}


def test_a_folder_keeps_its_steps_and_its_newest_version(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    for version in ("1", "2"):
        (folder / version).mkdir(parents=True)
        save(linear(), folder / version / "model.onnx")
    (folder / "labels.txt").write_text("no\nyes\nmaybe\n")
    (folder / "pipeline.toml").write_text(
        'description = "two"\n[versions]\npolicy = "latest"\n[engine]\nqueue_rows = 7\n'
        '[[postprocess]]\nstep = "labels.top_k"\nk = 1\nlabels = "labels.txt"\n'
    )
    (source,) = find_models([folder])
    bundle = gather(source, tmp_path / "copy")
    assert {each.name for each in bundle.folder.iterdir()} == {"model.onnx", "labels.txt"}
    table = bundle.settled(Candidate(2, "onnxruntime", 3, 16, 0.002))
    assert table["engine"] == {"queue_rows": 7, "max_batch_rows": 16, "max_wait_s": 0.002}
    assert table["model"]["threads"] == 3
    assert "versions" not in table
    open_variant(bundle).close()


def test_code_is_copied_with_the_code_beside_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "app.py").write_text("model = None\n")
    (tmp_path / "there" / "rows.csv").write_text("1\n")
    (source,) = find_models([f"{tmp_path / 'there' / 'app.py'}:model"])
    bundle = gather(source, tmp_path / "copy")
    assert {each.name for each in bundle.folder.iterdir()} == {"app.py"}
    assert bundle.table["model"]["file"] == "app.py:model"


def test_a_model_of_a_triton_repository_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "1").mkdir(parents=True)
    save(linear(), folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text('name: "model"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 8\n')
    (source,) = find_models([folder])
    with pytest.raises(Setup, match="tune its model file") as refused:
        gather(source, tmp_path / "copy")
    assert refused.value.code == "cannot_tune"
