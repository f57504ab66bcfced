"""The docs: generated pages are current, links lead somewhere, and what they name exists."""

import ast
import functools
import importlib.util
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import foretell
from foretell.cli import cli
from foretell.settings import walk
from foretell.steps import STEPS, build_step

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?<!from)(?:^|[`\s(])foretell (serve|predict|inspect|demo|[a-z]+)\b([^`\n#]*)", re.MULTILINE)
NAME = re.compile(r"`([A-Za-z_][\w.]*)(?:\(\))?`")
FILE = re.compile(r"`([\w./-]+/|[\w./-]+\.(?:py|toml|md|svg))`")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@functools.cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_of(page: Path) -> str:
    """The fenced blocks and inline code of a page."""
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```.*?^```|`[^`\n]+`", text, re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@functools.cache
def names_in_the_package() -> frozenset[str]:
    """Every file, class, function, argument, attribute and variable of the package."""
    found: set[str] = set()
    for path in Path(foretell.__file__).parent.rglob("*.py"):
        found |= {*path.relative_to(Path(foretell.__file__).parent.parent).with_suffix("").parts}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found |= set(_names(node))
    return frozenset(found)


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.arg):
        yield node.arg


def test_the_pages_that_a_newcomer_needs_are_there() -> None:
    needed = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
    needed |= {f"docs/{name}.md" for name in ("start", "pipeline", "steps", "settings", "errors", "tour")}
    assert needed <= set(map(name_of, PAGES))
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")


@pytest.mark.parametrize("page", ["settings.md", "errors.md", "steps.md"])
def test_generated_pages_are_current(page: str) -> None:
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == generator().PAGES[page](), "run python docs/generate.py"


@pytest.mark.parametrize("name", STEPS)
def test_the_example_of_every_step_builds(name: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("no\nyes\nmaybe\n")
    words = {"type": "WordLevel", "vocab": {"[UNK]": 0, "[PAD]": 1}, "unk_token": "[UNK]"}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": words}))
    build_step(name, generator().EXAMPLES.get(name, {}), tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{name_of(page)} links to {link}, which does not exist"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)} links to {link}, but there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_flags_exist(page: Path) -> None:
    for verb, rest in COMMAND.findall(code_of(page).replace("\\\n", " ")):
        command = cli.commands.get(verb)
        assert command is not None, f"{name_of(page)}: there is no `foretell {verb}`"
        if isinstance(command, click.Group) and rest.split():
            command = command.commands.get(rest.split()[0])
            assert command is not None, f"{name_of(page)}: there is no `foretell {verb} {rest.split()[0]}`"
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for flag in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest):
            assert flag in known | {"--help", "-h"}, f"{name_of(page)}: foretell {verb} has no {flag}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_variables_exist(page: Path) -> None:
    named = set(re.findall(r"FORETELL_[A-Z_]+[A-Z]\b", page.read_text(encoding="utf-8")))
    assert named <= {key.env for key in walk()}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_verbs_exist(page: Path) -> None:
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", code_of(page), re.MULTILINE)) <= verbs


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_steps_that_are_named_exist(page: Path) -> None:
    for step in re.findall(r'^step = "([^"]+)"', page.read_text(encoding="utf-8"), re.MULTILINE):
        assert step in STEPS, f"{name_of(page)}: there is no step {step}"


def _exists(file: str) -> bool:
    """Whether a path from the root, or from some folder of the package, is there."""
    return (ROOT / file).exists() or any(Path(foretell.__file__).parent.rglob(file))


def test_every_name_in_the_tour_exists() -> None:
    text = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    assert "foretell/pipeline.py" in text
    for file in FILE.findall(text):
        assert _exists(file), f"the tour names {file}, which does not exist"
    for name in NAME.findall(text):
        if not FILE.fullmatch(f"`{name}`"):
            missing = set(name.split(".")) - names_in_the_package() - {"foretell", "self"}
            assert not missing, f"the tour names `{name}`, but the package has no {', '.join(missing)}"


def test_every_verb_has_a_line_of_help() -> None:
    for name, command in cli.commands.items():
        assert isinstance(command, click.Command)
        assert command.get_short_help_str().endswith("."), name
        assert command.help, name


def _blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("page", "words"), [("start.md", "# test_digits.py"), ("pipeline.md", "ModelOptions(threads=2)")])
def test_the_code_of_the_docs_runs(page: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (block for block in _blocks(page) if words in block)
    (tmp_path / "shown.py").write_text(block)
    monkeypatch.chdir(ROOT)
    shown = runpy.run_path(str(tmp_path / "shown.py"))
    tests = [value for name, value in shown.items() if name.startswith("test_")]
    assert tests or page != "start.md"
    for test in tests:
        test()
