"""One search from the model and its rows to a folder that is served: variants, looks, the best beside the default."""

import contextlib
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from foretell.cpus import usable_cpus
from foretell.errors import Setup
from foretell.evidence.case import Case, open_case
from foretell.evidence.data import Data, read_data
from foretell.evidence.energy import Meter, find_meter
from foretell.evidence.verdict import Wanted as Judged
from foretell.optimize.tune.bundle import Bundle, gather
from foretell.optimize.tune.objective import Objective
from foretell.optimize.tune.place import check_place, leave
from foretell.optimize.tune.plot import check_plots, draw
from foretell.optimize.tune.report import Report
from foretell.optimize.tune.search import LOOKS, Look, Search
from foretell.optimize.tune.space import BATCH_ROWS, WAITS, Candidate, Space, placements
from foretell.optimize.tune.stand import Stand
from foretell.optimize.tune.variants import Maker, Variant, Workshop, open_variant
from foretell.optimize.tune.verdict import STEPS, compare
from foretell.pipeline import Pipeline
from foretell.repository import find_models
from foretell.repository.model_folder import ModelSource
from foretell.settings import EngineSettings
from foretell.tensors import Arrays

MOST_REQUESTS = 512
FORWARDS_OF_A_LOOK = 120
LEAST_LOOK_S = 0.8
BETWEEN_S = 1.2


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to search for, and how far. Empty tuples leave the choice to the machine; ``seconds`` None too.

    ``judged`` is the metric and the largest loss of it that is allowed; ``only`` names variants; ``makers`` gives, for a case,
    what writes the ONNX model in other precisions.
    """

    objective: Objective
    data: Path
    target: Path
    seconds: float | None = None
    judged: Judged = field(default_factory=Judged)
    protocol: str = "json"
    trust: bool = False
    only: tuple[str, ...] = ()
    workers: tuple[int, ...] = ()
    threads: tuple[int, ...] = ()
    batch_rows: tuple[int, ...] = ()
    makers: Callable[[Case], Mapping[str, Maker]] = lambda case: {}


class Shown(Protocol):
    """Who is told how it goes on."""

    def variant(self, variant: Variant) -> None: ...

    def begins(self, candidates: int, seconds: float) -> None: ...

    def look(self, look: Look, *, final: bool = False) -> None: ...


def tune(model: str, wanted: Wanted, shown: Shown) -> Report:
    """Search, and leave the folder. After Ctrl-C it holds what was measured until then, and no model.

    Raises Setup before the long work: ``wrong_target``, ``cannot_tune``, ``short_budget``, and as the data's and the metric's
    readers do; and after it ``unmet_objective``.
    """
    check_place(wanted.target)
    check_plots()
    source = _source(model)
    with tempfile.TemporaryDirectory(prefix="foretell-tune-") as work:
        report, bundles = _search(source, wanted, Path(work), shown)
        chosen = bundles.get(report.chosen.variant) if report.chosen else None
        leave(wanted.target, report, chosen, draw)
    _refuse_unmet(report, wanted.target)
    return report


def _search(source: ModelSource, wanted: Wanted, work: Path, shown: Shown) -> tuple[Report, dict[str, Bundle]]:
    original = gather(source, work / "original", trust=wanted.trust)
    open_variant(original).close()
    with contextlib.closing(open_case(original.folder, wanted.data, wanted.judged)) as case:
        data = read_data(wanted.data, case.pipeline.signature, wanted.judged.label, wanted.judged.map)
        row_s = _seconds_of_a_row(case.pipeline, data)
        variants = Workshop(work, case, wanted.makers(case), wanted.only).all(original, shown.variant)
    default = default_of(source, variants[0])
    report = Report(source.name, wanted.objective, _machine(), default, variants, str(wanted.judged.budget))
    bundles = {each.name: each.bundle for each in variants if each.bundle is not None and not each.refused}
    threaded = frozenset(each.name for each in variants if each.option is not None and each.option.has_threads)
    stand = Stand(work / "stand", bundles, requests(data), wanted.objective, wanted.protocol, _Counter(find_meter()), threaded)
    least_s = max(LEAST_LOOK_S, FORWARDS_OF_A_LOOK * row_s)
    search = _timed(Search(_space(wanted, variants), stand.measure, time.monotonic, 0.0, least_s, BETWEEN_S), wanted.seconds)
    with contextlib.suppress(KeyboardInterrupt), stand:
        report.interrupted = True
        _run(search, stand, report, shown)
        report.interrupted = False
    return report, bundles


def _run(search: Search, stand: Stand, report: Report, shown: Shown) -> None:
    def told(look: Look) -> None:
        report.add(look)
        shown.look(look)

    shown.begins(search.check(), search.budget_s)
    best = search.run(told, report.default)
    names = {each: f"final-{number}" for number, each in enumerate(dict.fromkeys([report.default, *best]))}
    with contextlib.ExitStack() as open_ones:
        for candidate, name in names.items():
            open_ones.enter_context(stand.loaded(candidate, name))
        final_s = (1 - LOOKS) * search.budget_s
        report.final = compare(
            best,
            report.default,
            lambda candidate, seconds: stand.look(candidate, names[candidate], seconds, STEPS),
            final_s,
            lambda look: shown.look(look, final=True),
        )


def _source(model: str) -> ModelSource:
    """The one model, its newest version. Raises Setup ``cannot_tune`` for several."""
    sources = find_models([model])
    names = {source.name for source in sources}
    if len(names) != 1:
        raise Setup("cannot_tune", f"{model} holds {len(names)} models ({', '.join(sorted(names)[:5])}): tune one at a time")
    return sources[-1]


def default_of(source: ModelSource, original: Variant) -> Candidate:
    """How ``foretell serve MODEL`` serves it without a word: what its pipeline.toml says, else the settings' defaults."""
    said, engine = source.config.engine, EngineSettings()
    threads = source.config.model.threads
    option = original.option
    rows = int(said.get("max_batch_rows", engine.max_batch_rows if option is None or option.batches else 1))
    threads = int(said.get("threads", engine.threads)) if threads is None else threads
    threads = threads or usable_cpus()
    has_threads = option is None or option.has_threads
    return Candidate(1, original.name, threads if has_threads else 1, rows, float(said.get("max_wait_s", engine.max_wait_s)))


def _space(wanted: Wanted, variants: Sequence[Variant]) -> Space:
    cpus = usable_cpus()
    options = [each.option for each in variants if each.option is not None and not each.refused]
    if wanted.only:
        options = [option for option in options if option.variant in wanted.only]
        if not options:
            text = f"none of {', '.join(wanted.only)} can be searched; there are: {', '.join(each.name for each in variants)}"
            raise Setup(
                "cannot_tune", f"{text}. {' '.join(f'{each.name}: {each.refused}.' for each in variants if each.refused)}"
            )
    found = placements(cpus)
    pairs = [
        (workers, threads)
        for workers in wanted.workers or sorted({each for each, _ in found})
        for threads in wanted.threads or sorted({each for _, each in found})
    ]
    kept = [pair for pair in pairs if pair in found or (wanted.workers and wanted.threads)] or pairs
    waits = [round(share * wanted.objective.bound_s, 6) for share in WAITS]
    return Space(options, kept, wanted.batch_rows or BATCH_ROWS, [each for each in waits if each <= 10])


def _timed(search: Search, seconds: float | None) -> Search:
    """With its time; what is named must do. Raises Setup ``short_budget``."""
    timed = replace(search, budget_s=seconds or search.wanted_s)
    timed.check()
    return timed


def requests(data: Data) -> list[Arrays]:
    """Single rows, in their order."""
    return [data.take(slice(row, row + 1)).rows for row in range(min(len(data), MOST_REQUESTS))]


def _seconds_of_a_row(pipeline: Pipeline, data: Data, clock: Callable[[], float] = time.perf_counter) -> float:
    """How long one row takes here, the quickest of three."""
    row = data.take(slice(0, 1)).rows
    found = []
    for _ in range(3):
        start = clock()
        pipeline(row)
        found.append(clock() - start)
    return min(found)


class _Counter:
    """Joules since the first reading; None where they cannot be told."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.before = meter.read_j()
        self.total = 0.0

    def __call__(self) -> float | None:
        now = self.meter.read_j()
        spent = self.meter.between(self.before, now)
        self.before = now
        if spent is None:
            return None
        self.total += spent
        return self.total


def _machine() -> str:
    return f"{usable_cpus()} CPUs usable ({platform.machine()}, {platform.system()})."


def _refuse_unmet(report: Report, target: Path) -> None:
    if report.final is None or report.final.best.met:
        return
    look = report.final.best.look
    tail = look.latency_s.get(report.objective.percentile)
    came = f"{report.objective.percentile} was {tail * 1e3:,.1f} ms with {look.clients} clients" if tail else look.problem
    text = f"nothing that was tried met {report.objective}: the nearest was {look.candidate}, where {came}"
    raise Setup("unmet_objective", f"{text}; {target / 'tune.md'} has all that was tried")
