"""A model's fingerprint changes with any of its files, and with nothing else."""

import shutil
from pathlib import Path

from foretell.repository import find_model
from foretell.repository.fingerprint import fingerprint

MODELS = Path(__file__).parents[2] / "foretell" / "demo" / "models"


def test_a_copy_has_the_same_fingerprint_until_a_file_of_it_changes(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "digits", tmp_path / "digits")
    first = fingerprint(find_model(MODELS / "digits"))
    assert fingerprint(find_model(tmp_path / "digits")) == first
    table = tmp_path / "digits" / "pipeline.toml"
    table.write_text(table.read_text() + "\n# another\n")
    assert fingerprint(find_model(tmp_path / "digits")) != first


def test_code_is_told_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("a = 1")
    before = fingerprint(find_model(f"{tmp_path}/app.py:pipeline"))
    (tmp_path / "app.py").write_text("a = 2")
    assert fingerprint(find_model(f"{tmp_path}/app.py:pipeline")) != before
