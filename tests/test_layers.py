"""The rooms of the package: who may import whom, how long things may be, and what must not be reachable at all."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import foretell

PACKAGE = Path(foretell.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = (
    {
        "errors",
        "codes",
        "tensors",
        "request",
        "passage",
        "settings",
        "plugins",
        "cpus",
        "memory",
        "comparison",
        "pixels",
        "formats",
        "axes",
        "classes",
        "rehearsal",
        "elements",
        "region",
        "board",
        "outlet",
        "sockets",
        "suspicion",
    },  # words
    {"storage", "security", "observe"},  # doors
    {"backends", "steps", "pipeline", "repository", "user_code"},  # nouns
    {"engine", "jobs"},
    {"modes"},
    {
        "bench",
        "evidence",
        "optimize",
        "convert",
        "assemble",
        "asgi",
        "workers",
        "cli",
        "client",
        "ask",
        "jobs_shown",
        "testing",
        "display",
        "demo",
        "__main__",
    },  # top
)
SHELVES = {"backends", "steps", "observe", "optimize", "convert"}
"""Their files are islands; so is each folder of ``modes`` and of ``jobs/stores``."""

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 40
NO_NAMES = {"utils", "util", "common", "base", "core", "manager", "helpers", "helper", "handler", "handlers", "misc"}

CATCH_ALL = {
    "pipeline.py": 2,  # the model and a step, each run for one caller
    "engine/batcher.py": 1,  # the batch run
    "engine/stream.py": 2,  # one step of an answer in pieces, and its end: the batch run of those
    "engine/engine.py": 1,  # the observer call
    "engine/warmup.py": 2,  # warming up with made-up rows, and with random ones
    "backends/isolated/child.py": 1,  # the outermost loop of a model's own process
    "modes/grpc/calls.py": 2,  # the mode's outermost loop, for one answer and for a stream of them
    "modes/grpc/inference.py": 1,  # the same, for one reply of a stream
    "modes/http/app.py": 1,  # the mode's outermost loop
    "modes/http/lane.py": 1,  # the same, for callers with and without a batch
    "modes/http/turn.py": 1,
    "jobs/stores/sqlite/writer.py": 1,  # one transaction for many callers, like a batch run
    "jobs/desk.py": 1,  # the outermost loop of a job
    "cli/group.py": 1,  # the outermost loop of the command line
    "workers/files_job.py": 1,  # the outermost loop of the process of a job over files
    "workers/worker.py": 1,  # the outermost loop of a worker process
}
TRUSTED_LOADER = "backends/sklearn.py"
CODE_IN_DATA = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
NEVER_CALLED = {
    "eval",
    "exec",
    "compile",
    "yaml.load",
    "yaml.unsafe_load",
    "torch.load",
    "pandas.read_pickle",
    "pd.read_pickle",
}


def name_of(path: Path) -> str:
    """``modes/http/app.py``."""
    return path.relative_to(PACKAGE).as_posix()


def module_of(path: Path) -> tuple[str, ...]:
    """``("modes", "http", "app")``; a package's ``__init__`` is the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module_of(path) for path in FILES}


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Every module of the package that a file imports, at its top or late; ``()`` is the package root."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: write imports in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names if alias.name != "__version__"]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "foretell":
                yield _module(tuple(name.split(".")[1:]))


def _module(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The module part of ``package.module.attribute``."""
    return parts if not parts or parts in MODULES else parts[:-1]


def room(module: tuple[str, ...]) -> int:
    for rank, names in enumerate(ROOMS):
        if module[0] in names:
            return rank
    raise AssertionError(f"foretell/{'/'.join(module)} is in no room: add it to design and to ROOMS")


def island(module: tuple[str, ...]) -> tuple[str, ...] | None:
    """What a module must not leave sideways: its file on a shelf, its folder among the modes."""
    if module[0] in SHELVES or module[0] == "modes":
        return module[:2] if len(module) > 1 else None
    if module[:2] == ("jobs", "stores"):
        return module[:3] if len(module) > 2 else None
    return None


@pytest.mark.parametrize("path", [path for path in FILES if module_of(path)], ids=name_of)
def test_imports_point_down(path: Path) -> None:
    own = module_of(path)
    for other in imported(path):
        assert other, f"{name_of(path)} imports the package root"
        assert room(other) <= room(own), f"{name_of(path)} imports {'.'.join(other)}, which is above it"


@pytest.mark.parametrize("path", [path for path in FILES if module_of(path)], ids=name_of)
def test_nothing_on_a_shelf_imports_its_neighbour(path: Path) -> None:
    own = module_of(path)
    for other in imported(path):
        if other[0] == own[0] and island(other) is not None:
            assert island(own) == island(other), f"{name_of(path)} imports its neighbour {'.'.join(other)}"


def test_no_file_imports_itself_by_a_detour() -> None:
    graph = {module_of(path): {other for other in imported(path) if other != module_of(path)} for path in FILES}
    while leaves := [module for module, others in graph.items() if not others & set(graph)]:
        for leaf in leaves:
            del graph[leaf]
    assert not graph, f"these import each other in a circle: {sorted('.'.join(module) for module in graph)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_a_drawer(path: Path) -> None:
    assert not NO_NAMES & set(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_short_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < MOST_LINES_OF_A_FILE
    assert ast.get_docstring(ast.parse(text)), f"{name_of(path)} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) else None
            lines = (node.end_lineno or 0) - node.lineno + 1
            lines -= (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
            assert lines <= MOST_LINES_OF_A_FUNCTION, f"{name_of(path)}: {node.name} has {lines} lines"


def test_catching_everything_happens_in_few_places() -> None:
    found = {
        name_of(path): count
        for path in FILES
        if (count := sum(_catches_all(node) for node in nodes(path) if isinstance(node, ast.ExceptHandler)))
    }
    assert found == {name: count for name, count in CATCH_ALL.items() if name in found}


def _catches_all(handler: ast.ExceptHandler) -> bool:
    """Whether the handler swallows or converts every exception; cleaning up and raising it again is no catch."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    everything = any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}) for kind in caught
    )
    last = handler.body[-1]
    return everything and not (isinstance(last, ast.Raise) and last.exc is None)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_data_that_can_run_code_is_read_by_the_trusted_loader_only(path: Path) -> None:
    if name_of(path) == TRUSTED_LOADER:
        return
    for node in nodes(path):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                {alias.name.split(".")[0] for alias in node.names}
                if isinstance(node, ast.Import)
                else {str(node.module).split(".")[0]}
            )
            assert not names & CODE_IN_DATA, f"{name_of(path)}:{node.lineno} imports {names & CODE_IN_DATA}"
        if isinstance(node, ast.Call):
            _check_call(path, node)


def _check_call(path: Path, call: ast.Call) -> None:
    name, where = ast.unparse(call.func), f"{name_of(path)}:{call.lineno}"
    assert name not in NEVER_CALLED, f"{where} calls {name}"
    for keyword in call.keywords:
        if keyword.arg == "allow_pickle":
            assert isinstance(keyword.value, ast.Constant), where
            assert keyword.value.value is False, where
    if name in {"np.load", "numpy.load"}:
        assert "allow_pickle" in {keyword.arg for keyword in call.keywords}, f"{where}: say allow_pickle=False"


def test_the_trusted_loader_unpickles_after_asking_for_trust() -> None:
    text = (PACKAGE / TRUSTED_LOADER).read_text(encoding="utf-8")
    assert text.index("untrusted_model") < text.index("joblib.load(")
    assert "sha256" in text


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_environment_is_read_by_the_command_line_only(path: Path) -> None:
    """But for the package's first lines, which turn off what a runtime would tell of its user, unless that user chose."""
    if name_of(path) == "__init__.py":
        return
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and isinstance(node.value, ast.Name):
            assert not (node.value.id == "os" and module_of(path)[:1] not in {("cli",), ("demo",)}), name_of(path)
