"""What the command line shows of models and runs: tables for people, plain data for programs."""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from foretell.backends import describe
from foretell.engine.warmup import choose_place, warm_up
from foretell.errors import Setup
from foretell.memory import Growth
from foretell.observe.logs import escape
from foretell.repository import find_models, open_pipeline
from foretell.repository.files import disk_bytes
from foretell.repository.model_folder import ModelSource, has_sums
from foretell.settings import EngineSettings
from foretell.steps import Function, Step
from foretell.tensors import TensorSpec

if TYPE_CHECKING:
    from foretell.assemble import Checked
    from foretell.convert import Report as Conversion
    from foretell.modes.files import Forecast, Report

WIDTH_WHEN_PIPED = 160
MOST_CHARS_OF_AN_OPTION = 60
LEAST_SHARE = 0.01
"""Of the time in the model: less is not worth a word."""
NOT_MEASURED = "not measured"
WHERE = {"inline": "in the event loop", "thread": "in a thread of its own", "process": "in a process of its own"}


def show_checked(models: "Iterable[Checked]") -> None:
    """A table of models that are ready to be served."""
    table = _table("model", "version", "takes", "gives", "runs", "warm-up", "memory", "in batches")
    refused = []
    for model in models:
        takes, gives = (_lines(specs, model.signature.rows) for specs in (model.signature.inputs, model.signature.outputs))
        warm = show_time(model.warm_up_s) if model.refusal is None else NOT_MEASURED
        disturbance = "" if model.disturbance is None else _show_disturbance(model.disturbance.difference)
        memory = show_bytes(model.memory_bytes)
        _add(table, model.name, model.version, takes, gives, WHERE[model.placement], warm, memory, disturbance)
        refused += [] if model.refusal is None else [f"{model.name} {_refused(model.refusal)}"]
    console = _console()
    console.print(table)
    for text in refused:
        console.print(Text(escape(text)), soft_wrap=True)


def show_report(report: "Report", file: Path | None = None) -> None:
    """What became of a run, on standard error, and as JSON in a file."""
    before = f", {report.resumed:,} of them by a run before; the others" if report.resumed else ""
    speed = f"{show_time(report.seconds)}, {report.rows_per_s:,.0f} rows/s"
    speed += f", {report.model_share:.0%} of it in the model" if report.model_share >= LEAST_SHARE else ""
    shown = "standard output" if str(report.target) == "-" else escape(str(report.target))
    print(f"{_rows(report.rows)} answered{before} in {speed}: {shown}", file=sys.stderr)
    if report.cost_per_million is not None:
        print(f"{show_amount(report.cost_per_million)} a million rows", file=sys.stderr)
    if report.failed:
        why = "the lines above say why" if report.errors is None else f"{escape(str(report.errors))} says why"
        print(f"{_rows(report.failed)} could not be answered: {why}", file=sys.stderr)
    _write_facts(report.facts(), file)


def show_forecast(forecast: "Forecast", file: Path | None = None) -> None:
    """What a run will take, on standard output, and as JSON in a file."""
    rate = f"{forecast.rows_per_s:,.0f} rows/s"
    print(f"{_rows(forecast.sampled)} tried at {rate}, {forecast.bad:,} of them bad; nothing was written")
    if forecast.why:
        print(f"  {escape(forecast.why)}")
    beside = f", and {forecast.passed_over:,} passed over" if forecast.passed_over else ""
    print(f"  rows    about {forecast.rows:,}{beside}")
    print(f"  time    about {show_time(forecast.seconds)}")
    print(f"  memory  {show_bytes(forecast.memory_bytes)}")
    cost = (
        "not known: give --price-per-hour"
        if forecast.cost is None
        else f"about {show_amount(forecast.cost)}, in what --price-per-hour is in"
    )
    energy = (
        "not counted by this machine: give --watts"
        if forecast.joules is None
        else f"about {show_amount(forecast.joules / 3600)} Wh"
    )
    print(f"  cost    {cost}")
    print(f"  energy  {energy}")
    _write_facts(forecast.facts(), file)


def _write_facts(facts: Mapping[str, Any], file: Path | None) -> None:
    if file is not None:
        try:
            file.write_text(json.dumps(facts, indent=2) + "\n")
        except OSError as error:
            text = f"the report cannot be written to {file}: {error.strerror}; the answers are there"
            raise Setup("wrong_target", text) from error


def show_conversion(report: "Conversion") -> None:
    """What was written, and how far its answers lie from the original's."""
    kind = "of your own" if report.own_rows else "that were made up"
    print(f"{escape(str(report.target))}: {report.source_format} as {report.target_format}")
    print(f"compared on {_rows(report.rows)} {kind}:")
    for each in report.differences:
        off = f"off by up to {each.absolute:.3g}, {each.relative:.3g} of its largest value" if each.absolute else "the same"
        print(f"  {escape(each.output)}  {off}")


def inspect_models(path: str) -> list[dict[str, Any]]:
    """The facts of every model at ``path``, JSON-ready: times in milliseconds, sizes in bytes. Raises Setup."""
    return [_inspect(source) for source in find_models([path])]


def show_models(models: Sequence[Mapping[str, Any]]) -> None:
    """The facts of ``inspect_models`` for people."""
    console = _console()
    for facts in models:
        console.print(Text(escape(f"{facts['name']}  version {facts['version']}"), style="bold"))
        if facts["description"]:
            console.print(Text(escape(facts["description"])), soft_wrap=True)
        table = _table("", "name", "datatype", "shape")
        for label, specs in (("takes", facts["inputs"]), ("gives", facts["outputs"])):
            for place, spec in enumerate(specs):
                _add(table, "" if place else label, spec["name"], spec["datatype"], _shape(spec, facts["rows"]))
        console.print(table)
        console.print()
        remarks = _remarks(facts)
        width = max(len(label) for label, _ in remarks)
        for label, text in remarks:
            console.print(Text(f"  {label:<{width}}  {escape(text)}"), soft_wrap=True)
        console.print()


def show_time(seconds: float) -> str:
    """``4.3 µs``, ``12 ms``, ``1.5 s``."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def show_amount(amount: float) -> str:
    """``0.0001``, ``0.0325``, ``1,250.00``: a price, or another small amount, without an exponent."""
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.4f}"


def show_bytes(count: int) -> str:
    """``812 bytes``, ``16.4 KiB``, ``5.4 MiB``."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _inspect(source: ModelSource) -> dict[str, Any]:
    growth, start = Growth(), time.perf_counter()
    pipeline = open_pipeline(source)
    load_s = time.perf_counter() - start
    warm = warm_up(pipeline.model, EngineSettings().max_batch_rows)
    place = choose_place(warm, EngineSettings().inline_below_us)
    facts = {
        "name": source.name,
        "version": source.version,
        "description": source.config.description,
        "verified": has_sums(source),
        "path": source.path,
        "bytes": disk_bytes(source),
        "facts": dict(describe(pipeline.model)),
        "inputs": _describe(pipeline.signature.inputs, pipeline.signature.rows),
        "outputs": _describe(pipeline.signature.outputs, pipeline.signature.rows),
        "rows": pipeline.signature.rows,
        "preprocess": [describe_step(step) for step in pipeline.preprocess],
        "postprocess": [describe_step(step) for step in pipeline.postprocess],
        "load_ms": load_s * 1e3,
        "warm_up_ms": None if warm.forward_s is None else warm.first_s * 1e3,
        "forward_ms": None if warm.forward_s is None else warm.forward_s * 1e3,
        "refusal": warm.refusal,
        "memory_bytes": growth.bytes,
        "disturbance": None if warm.disturbance is None else warm.disturbance.difference,
        "placement": place.name,
    }
    place.close()
    pipeline.close()
    return facts


def describe_step(step: Step) -> str:
    """``image.decode(mode='L')``: a step as it is written in Python, without what is at its default."""
    if isinstance(step, Function) or not is_dataclass(step):
        call = step.call if isinstance(step, Function) else step
        return f"{getattr(call, '__name__', type(call).__name__)}()"
    family = type(step).__module__.rpartition(".")[2]
    given = [
        (item.name, getattr(step, item.name)) for item in fields(step) if item.repr and getattr(step, item.name) != item.default
    ]
    return f"{family}.{type(step).__name__}({', '.join(f'{name}={_shorten(repr(value))}' for name, value in given)})"


def _shorten(text: str) -> str:
    return text if len(text) <= MOST_CHARS_OF_AN_OPTION else f"{text[:MOST_CHARS_OF_AN_OPTION]}..."


def _describe(specs: Iterable[TensorSpec], rows: bool) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "datatype": str(spec.dtype), "shape": [-1] * rows + [-1 if n is None else n for n in spec.shape]}
        for spec in specs
    ]


def _shape(spec: Mapping[str, Any], rows: bool) -> str:
    sizes = ["?" if size == -1 else str(size) for size in spec["shape"]]
    return "[" + ", ".join(["rows", *sizes[1:]] if rows else sizes) + "]"


def _lines(specs: Iterable[TensorSpec], rows: bool) -> str:
    return "\n".join(escape(f"{spec['name']} {spec['datatype']} {_shape(spec, rows)}") for spec in _describe(specs, rows))


def _remarks(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    size = f", {show_bytes(facts['bytes'])}"
    loading, where = show_time(facts["load_ms"] / 1e3), WHERE[facts["placement"]]
    forward = f"{where}; {_refused(facts['refusal'])}"
    if facts["forward_ms"] is not None:
        forward = f"{where}, {show_time(facts['forward_ms'] / 1e3)} a row"
        loading += f", and {show_time(facts['warm_up_ms'] / 1e3)} to warm up"
    remarks = [("file", facts["path"] + size), *((label, text) for label, text in facts["facts"].items() if label != "size")]
    remarks += [("before", step) for step in facts["preprocess"]] + [("after", step) for step in facts["postprocess"]]
    if facts["verified"]:
        remarks.append(("verified", "its files are those of SHA256SUMS"))
    if facts["disturbance"] is not None:
        remarks.append(("in batches", f"rows get {_show_disturbance(facts['disturbance'])}"))
    return [*remarks, ("loading", loading), ("memory", show_bytes(facts["memory_bytes"])), ("forward", forward)]


def _show_disturbance(difference: float) -> str:
    """What the others in a batch do to a row's answer."""
    return f"another answer, by up to {difference:.1g} of the largest value" if difference else "the same answer"


def _refused(reason: str | None) -> str:
    """Why there is no time of a forward."""
    return f"{NOT_MEASURED}: it refuses made-up rows ({reason})"


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text("\n".join(map(escape, cell.splitlines()))) for cell in cells))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH_WHEN_PIPED, highlight=False)
