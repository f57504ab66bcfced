"""pipeline.toml: the model's options and versions, its steps, and its engine settings, read strictly."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from foretell.backends import BACKENDS, ModelOptions
from foretell.errors import Setup
from foretell.plugins import did_you_mean
from foretell.repository.versions import VersionsTable
from foretell.settings import EngineSettings, override
from foretell.steps import Step, build_step
from foretell.storage import check_inside, read_small

FILE_NAME = "pipeline.toml"
MOST_BYTES = 128 * 2**10  # long lists belong into files of their own: `labels = "labels.txt"`, `statistics = "statistics.json"`


class ModelTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[model]``: what stays None or empty is left to the defaults. ``file`` is relative to the model's version folder.

    ``pin``: whether the model stays loaded when memory is short.
    """

    file: str | None = None
    backend: str | None = None
    trust: bool | None = None
    rows: bool | None = None
    threads: int | None = None
    native: bool | None = None
    providers: tuple[str, ...] | None = None
    pin: bool = False
    options: dict[str, Any] = msgspec.field(default_factory=dict)


class PipelineFile(msgspec.Struct, frozen=True, kw_only=True):
    """One parsed pipeline.toml. ``engine`` replaces values of EngineSettings for this model alone."""

    description: str = ""
    model: ModelTable = msgspec.field(default_factory=ModelTable)
    versions: VersionsTable = msgspec.field(default_factory=VersionsTable)
    preprocess: list[dict[str, Any]] = msgspec.field(default_factory=list)
    postprocess: list[dict[str, Any]] = msgspec.field(default_factory=list)
    engine: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def engine_part(self) -> "PipelineFile":
        """It without all that may change while the engines that were made from it go on."""
        model = msgspec.structs.replace(self.model, pin=False)
        return msgspec.structs.replace(self, model=model, versions=VersionsTable(), description="")

    def options_over(self, given: ModelOptions) -> ModelOptions:
        """The options of the file, and for what it leaves out those that were ``given``."""
        said = {name: getattr(self.model, name) for name in ("trust", "rows", "threads", "native", "providers")}
        chosen = {name: value for name, value in said.items() if value is not None}
        return replace(given, **chosen, options={**given.options, **self.model.options})


def read_pipeline_file(folder: Path) -> PipelineFile:
    """The folder's pipeline.toml; the defaults if it has none.

    Raises Setup ``broken_pipeline``, ``unknown_setting`` or ``wrong_setting``, naming the file and the key.
    """
    file = folder / FILE_NAME
    if not file.exists():
        return PipelineFile()
    check_inside(file, folder)
    table = _read_toml(file)
    _refuse_unknown(table, PipelineFile, file, "")
    for stage in ("preprocess", "postprocess"):
        if isinstance(table.get(stage), dict):
            raise Setup("broken_pipeline", f"{file}: there may be several steps: write [[{stage}]] with two brackets")
    for name, kind in (("model", ModelTable), ("versions", VersionsTable)):
        inner = table.get(name)
        if isinstance(inner, dict):
            _refuse_unknown(inner, kind, file, f"[{name}] ")
    try:
        parsed = msgspec.convert(table, PipelineFile)
    except msgspec.ValidationError as error:
        raise Setup("broken_pipeline", f"{file}: {str(error).replace('`$.', '`')}") from error
    if parsed.model.backend is not None and parsed.model.backend not in BACKENDS:
        unknown = parsed.model.backend
        raise Setup("broken_pipeline", f"{file}: [model] there is no backend {unknown!r}{did_you_mean(unknown, BACKENDS)}")
    parsed.versions.check(file)
    override(EngineSettings(), parsed.engine, f"[engine] of {file}")
    return parsed


def build_steps(tables: Iterable[Mapping[str, Any]], stage: str, folder: Path) -> list[Step]:
    """The steps of ``[[preprocess]]`` or ``[[postprocess]]``; their files are relative to ``folder``. Raises Setup."""
    return [
        _build(table, f"{folder / FILE_NAME}, [[{stage}]] number {number}", folder) for number, table in enumerate(tables, 1)
    ]


def _build(table: Mapping[str, Any], where: str, folder: Path) -> Step:
    name = table.get("step")
    if not isinstance(name, str):
        raise Setup("broken_pipeline", f'{where} names no step: add a line like step = "numbers.softmax"')
    try:
        return build_step(name, {key: value for key, value in table.items() if key != "step"}, folder)
    except Setup as error:
        raise Setup(error.code, f"{where}: {error.message}", **error.details) from error


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_small(file, MOST_BYTES).decode("utf-8"))
    except OSError as error:
        raise Setup("missing_file", f"{file} cannot be read ({error.strerror}): correct its permissions") from error
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or too long
        raise Setup("broken_pipeline", f"{file} is not valid TOML: {error}") from error


def _refuse_unknown(table: Mapping[str, Any], known: type[msgspec.Struct], file: Path, where: str) -> None:
    for key in table:
        if key not in known.__struct_fields__:
            raise Setup(
                "broken_pipeline", f"{file}: {where}has no key {key!r}{did_you_mean(key, list(known.__struct_fields__))}"
            )
