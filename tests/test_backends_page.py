"""docs/backends.md: the table is the one in the code, every backend has its section, and the examples run."""

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from foretell.backends import BACKENDS, FOLDERS, SUFFIXES
from foretell.convert import CONVERTERS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
EXAMPLES = {name: code for name, text in SECTIONS.items() for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)}
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]


def test_the_table_of_suffixes_is_the_one_in_the_code() -> None:
    told = {suffix: row[2] for row in ROWS for suffix in re.findall(r"`(\.\w+)`", row[0]) if len(row) == 5}
    assert told == SUFFIXES


def test_the_table_of_folders_is_the_one_in_the_code() -> None:
    told = {row[2]: tuple(re.findall(r"`([^`]+)`", row[1])) for row in ROWS if row[0] == "a folder"}
    assert told == FOLDERS


def test_every_backend_has_its_section_and_its_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, plugin in BACKENDS.items():
        assert name in SECTIONS
        assert plugin.extra is None or plugin.extra in extras
        assert plugin.extra is None or any(row[2] == name and f"`{plugin.extra}`" in row[3] for row in ROWS if len(row) == 5)


def test_every_conversion_names_extras_that_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for plugin in CONVERTERS.values() for extra in (plugin.extra or "").split(",")}
    assert named <= {"", *extras}


def test_every_conversion_is_in_the_table() -> None:
    told = {(row[0], into) for row in ROWS if len(row) == 3 for into in row[1].split(", ")} - {("from", "to")}
    assert told == set(CONVERTERS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name: str, tmp_path: Path) -> None:
    for package in re.findall(r"^(?:import|from) (\w+)", EXAMPLES[name], re.MULTILINE):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: make runtimes")
    run = subprocess.run([sys.executable, "-c", EXAMPLES[name]], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "array" in run.stdout
