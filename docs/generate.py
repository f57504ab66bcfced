"""Writes the pages that are made from the code: ``python docs/generate.py``; ``--check`` only says which are out of date."""

import dataclasses
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from foretell.codes import CODES
from foretell.errors import Kind
from foretell.modes.grpc.status import STATUS as GRPC_STATUS
from foretell.modes.http.status import STATUS
from foretell.plugins import load_plugin
from foretell.settings import Key, Settings, walk
from foretell.steps import STEPS
from foretell.tensors import Datatype

HERE = Path(__file__).resolve().parent
NOTICE = "<!-- Made from {source} by `python docs/generate.py`: change that, not this page. -->\n"


SETTINGS_INTRO = """\
A setting is given by a flag, by a `FORETELL_*` variable, or in a TOML file (`--config FILE`); where several are, the first of
these wins. `foretell serve --print-config` prints every value and where it comes from, and what it prints is such a file. A
name that does not exist and a value outside the limits are refused at the start, wherever they stand.

```toml
host = "0.0.0.0"

[http]
port = 80
```

A model's own `pipeline.toml` may hold an `[engine]` table, which wins over the settings of that section for this model.
"""

ERRORS_INTRO = """\
Over HTTP a refusal is `{"error": "<sentence>", "code": "<code>", ...}` with the status below; a failure of the server's own
also has an `error_id`, under which its log has the details. Over gRPC it is the status named below with the sentence, and the
code as `foretell-code` in the trailing metadata. From Python it is an exception of the class named here, with `code`, `message`
and `details`. On the command line it is a sentence on standard error, and exit code 1.
"""

STEPS_INTRO = """\
A step is a function on arrays, before the model (`preprocess`) or after it (`postprocess`). It stands in `pipeline.toml`, or
is called from Python, with the same options. A plain function of yours may stand wherever a step may.
"""


def settings_page() -> str:
    """docs/settings.md: one table for each section."""
    lines = ["# Settings", "", NOTICE.format(source="foretell/settings/tree.py"), SETTINGS_INTRO.rstrip()]
    section = None
    for key in walk():
        if key.section != section:
            section = key.section
            lines += ["", f"## {section or 'Top level'}", "", *_about(section)]
            lines += ["| key | flag | variable | default | meaning | allowed |", "|---|---|---|---|---|---|"]
        lines.append(_settings_row(key))
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """docs/errors.md: one heading for each code."""
    lines = [
        "# Errors",
        "",
        NOTICE.format(source="foretell/errors.py"),
        ERRORS_INTRO,
        "| code | status | meaning |",
        "|---|---|---|",
    ]
    for code, (error, meaning, _) in CODES.items():
        lines.append(f"| [`{code}`](#{code}) | {_status(error.kind)} | {meaning} |")
    for code, (error, meaning, cure) in CODES.items():
        lines += ["", f"## {code}", "", f"`{error.__name__}`, {_status(error.kind)}. {meaning}", "", f"**What to do:** {cure}"]
    return "\n".join(lines) + "\n"


def steps_page() -> str:
    """docs/steps.md: one heading for each family, one for each step."""
    lines = ["# Steps", "", NOTICE.format(source="foretell/steps/"), STEPS_INTRO.rstrip()]
    family = ""
    for name in STEPS:
        step = load_plugin("step", STEPS, name)
        if name.partition(".")[0] != family:
            family = name.partition(".")[0]
            lines += ["", f"## {family}", "", _prose(sys.modules[step.__module__])]
        lines += ["", f"### {name}", "", *_step_lines(name, step, STEPS[name].extra)]
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {"settings.md": settings_page, "errors.md": errors_page, "steps.md": steps_page}


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` compare them; the exit code is 1 if one is out of date."""
    stale = [name for name, make in PAGES.items() if _read(HERE / name) != make()]
    for name in stale:
        if "--check" in arguments:
            print(f"docs/{name} is out of date: run python docs/generate.py")
        else:
            (HERE / name).write_text(PAGES[name](), encoding="utf-8")
            print(f"wrote docs/{name}")
    return 1 if stale and "--check" in arguments else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _about(section: str) -> list[str]:
    if not section:
        return []
    part = next(item.type for item in dataclasses.fields(Settings) if item.name == section)
    return [_prose(part), ""]


def _settings_row(key: Key) -> str:
    flag = "none: a secret" if key.secret else f"`{key.flag}`" + (f" / `--no-{key.flag[2:]}`" if key.type is bool else "")
    verb = "" if key.verb == "serve" else f" of `foretell {key.verb}`"
    return f"| `{key.name}` | {flag}{verb} | `{key.env}` | `{key.shown_default}` | {key.help} | {key.expected} |"


def _status(kind: Kind) -> str:
    return "at the start" if kind is Kind.SETUP else f"HTTP {STATUS[kind]}, gRPC {GRPC_STATUS[kind].name}"


def _step_lines(name: str, step: type[Any], extra: str | None) -> Iterator[str]:
    yield _prose(step)
    if extra:
        yield from ("", f"Needs the extra: `pip install 'foretell[{extra}]'`.")
    options = sorted((option for option in dataclasses.fields(step) if option.init), key=_importance)
    if options:
        yield from ("", "| option | type | default |", "|---|---|---|")
    for option in options:
        yield f"| `{option.name}` | {_show_type(option.type, option.metadata)} | {_default(option)} |"
    example = EXAMPLES.get(name, {})
    stage = "postprocess" if name.startswith(AFTER) else "preprocess"
    yield from (
        "",
        "```toml",
        f"[[{stage}]]",
        f'step = "{name}"',
        *(f"{key} = {_toml(value)}" for key, value in example.items()),
    )
    arguments = ", ".join(f"{key}={json.dumps(value)}" for key, value in example.items())
    yield from ("```", "", "```python", f"steps.{name}({arguments})", "```")


def _prose(documented: object) -> str:
    """A docstring as Markdown."""
    return (inspect.getdoc(documented) or "").replace("``", "`")


def _importance(option: dataclasses.Field[Any]) -> tuple[bool, bool]:
    return (not _required(option), option.name == "input")


def _required(option: dataclasses.Field[Any]) -> bool:
    return option.default is dataclasses.MISSING and option.default_factory is dataclasses.MISSING


def _default(option: dataclasses.Field[Any]) -> str:
    if _required(option):
        return "required"
    value = option.default if option.default_factory is dataclasses.MISSING else option.default_factory()
    return "" if value is None else f"`{_toml(value)}`"


def _show_type(hint: Any, metadata: Mapping[str, Any] = MappingProxyType({})) -> str:
    """A type in the words of TOML: ``text``, ``list of numbers``; a text that is looked up on disk is a file."""
    parts = [part for part in typing.get_args(hint) if part not in (type(None), Ellipsis)]
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return " or ".join(f"`{_toml(part)}`" for part in parts)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(_show_type(part, metadata) for part in parts))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"table of {_plural(parts[1])}"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"list of {_plural(parts[0])}"
    return "file" if hint is str and metadata.get("file") else WORDS[hint]


def _plural(hint: Any) -> str:
    return " or ".join(f"{word}s" for word in _show_type(hint).split(" or "))


def _toml(value: object) -> str:
    """A value as TOML, which for these types is almost JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


AFTER = ("numbers.", "labels.", "windows.merge", "table.keep", "table.rename")

WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Datatype: "datatype",
    Path: "file",
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "check.dtype": {"datatype": "FP32"},
    "check.shape": {"shape": [28, 28]},
    "check.range": {"low": 0, "high": 1},
    "check.allowed": {"values": ["red", "green"]},
    "table.columns": {"names": ["age", "income"], "into": "features"},
    "table.standardise": {"mean": [35.2, 2100.0], "std": [9.1, 800.0]},
    "table.impute": {"values": 0.0},
    "table.one_hot": {"input": "colour", "categories": ["red", "green"]},
    "table.ordinal": {"input": "size", "categories": ["small", "large"]},
    "table.keep": {"names": ["probabilities"]},
    "table.rename": {"names": {"output_0": "price"}},
    "image.resize": {"height": 224, "width": 224},
    "image.crop": {"height": 224, "width": 224},
    "text.tokenise": {"tokenizer": "tokenizer.json", "max_length": 128},
    "numbers.scale": {"by": 1000.0},
    "numbers.cast": {"datatype": "FP32"},
    "labels.decode": {"labels": "labels.txt"},
    "labels.top_k": {"k": 3, "labels": "labels.txt"},
    "labels.threshold": {"at": 0.4},
    "labels.abstain": {"below": 0.8},
    "windows.cut": {"size": 1024, "count": 8},
    "windows.crops": {"height": 224, "width": 224},
    "windows.merge": {"count": 8},
}
"""Options for the example of a step that needs some. A test builds each."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
