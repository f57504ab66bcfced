"""What is not asked for is not loaded: `import foretell` and `foretell --help` bring no runtime and no web framework."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.clocked

HEAVY = {
    "onnxruntime",
    "uvicorn",
    "starlette",
    "pyarrow",
    "PIL",
    "sklearn",
    "skl2onnx",
    "onnx",
    "tokenizers",
    "pandas",
    "httptools",
    "grpc",
}


def _loaded(code: str) -> set[str]:
    """The top-level packages that are loaded in a fresh process after ``code``."""
    program = f"{code}\nimport json, sys; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_import_foretell_loads_almost_nothing() -> None:
    assert _loaded("import foretell") & (HEAVY | {"numpy", "msgspec", "click", "rich"}) == set()


def test_the_supervisor_loads_almost_nothing() -> None:
    assert (
        _loaded("import foretell.workers.supervisor") & (HEAVY | {"numpy", "msgspec", "asyncio", "subprocess", "rich"}) == set()
    )


def test_a_pipeline_can_be_built_without_any_runtime() -> None:
    assert _loaded("from foretell import Pipeline, steps, load") & HEAVY == set()


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["predict", "--help"], ["serve", "--print-config"]])
def test_help_loads_no_runtime(arguments: list[str]) -> None:
    code = f"from foretell.cli import cli\ncli.main({arguments!r}, standalone_mode=False)"
    heavy = HEAVY if "--print-config" in arguments else HEAVY | {"numpy", "msgspec", "rich"}
    assert _loaded(code) & heavy == set()


def test_help_costs_no_more_than_the_import_of_numpy(tmp_path: Path) -> None:
    """Processor time, best of five by turns, bytecode kept: 150 ms where numpy takes 130. A slow machine is slow for both."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(tmp_path)

    def seconds(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True, timeout=60, env=environ)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    turns = [(seconds("-m", "foretell", "--help"), seconds("-c", "import numpy")) for _ in range(6)][1:]
    assert min(ours for ours, _ in turns) < 1.15 * min(theirs for _, theirs in turns)
