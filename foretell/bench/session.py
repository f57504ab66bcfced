"""One call of ``foretell bench``: what was asked for, run on a target, as one report."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foretell.bench.arrivals import ARRIVALS
from foretell.bench.bodies import make_rows, network, write_infer
from foretell.bench.figures import IDLE_CPU, Figures, summarize
from foretell.bench.load import Load, Samples
from foretell.bench.network import Network, most_links
from foretell.bench.rows import example_rows, read_rows
from foretell.bench.scenarios import OFFLINE, ROWS, Verdict, first_rate, run_offline, run_scenario
from foretell.bench.sweep import Step, Sweep, sweep
from foretell.bench.target import Target, check_first, find_target, told_of
from foretell.errors import Setup
from foretell.tensors import Arrays

WARM_UP = 0.2  # of the time, at most as much as below
MOST_WARM_UP_S = 5.0
MOST_BODIES_OF_A_FILE = 10_000
LESS = "give a lower --rate, or have the highest that is good found with --sweep"
MADE_UP, OF_A_FILE, EXAMPLE = "made up", "those of the file", "the server's own example, again and again"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to measure. Of ``clients``, ``rate`` and ``scenario`` at most one is given; none of them is a sweep.

    ``seconds`` is the time of one load, its warm-up beside it; ``rows`` those of one request.
    """

    where: str
    model: str | None = None
    clients: int | None = None
    rate: float | None = None
    scenario: str | None = None
    arrivals: str = "poisson"
    seconds: float = 5.0
    slo_s: float = 0.1
    protocol: str = "json"
    rows: int = 1
    data: Path | None = None


@dataclass
class Report:
    """What came of it. ``figures`` is that of the one load, or of the knee; ``rows`` says whose rows were sent."""

    wanted: Wanted
    model: str = ""
    rows: str = MADE_UP
    figures: Figures | None = None
    sweep: Sweep | None = None
    verdict: Verdict | None = None

    @property
    def problem(self) -> str:
        """Why the figures are not to be trusted; "" when they are."""
        if self.figures is None:
            return "" if self.verdict and self.verdict.sweep is None else "no rate was good"
        if self.figures.interrupted:
            return "it was interrupted: these are the figures up to then"
        bound_s = self.wanted.slo_s if self.sweep is not None else None
        if problem := self.figures.limit(bound_s):
            return problem + (f"; {LESS}" if self.wanted.rate is not None and self.figures.cpu >= IDLE_CPU else "")
        if self.wanted.rate is not None and self.figures.behind:
            return f"the server did not keep up with {self.wanted.rate:,g} requests/s; {LESS}"
        return "" if self.figures.good else "no request got a good answer"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data. Times are in seconds."""
        wanted = {**asdict(self.wanted), "data": str(self.wanted.data) if self.wanted.data else None}
        found: dict[str, Any] = {"wanted": {**wanted, "model": self.model}, "rows": self.rows, "problem": self.problem}
        if self.figures is not None:
            found["figures"] = asdict(self.figures)
        if self.sweep is not None:
            found["sweep"] = [asdict(step) for step in self.sweep.steps]
            found["knee"] = self.sweep.knee.rate if self.sweep.knee else None
        if self.verdict is not None:
            verdict = self.verdict
            found["scenario"] = {
                "name": verdict.scenario,
                "metric": verdict.metric,
                "value": verdict.value,
                "unit": verdict.unit,
            }
        return found


@dataclass(frozen=True)
class Session:
    """Loads on one target, each over fresh connections."""

    wanted: Wanted
    connect: Callable[[], Network]

    @property
    def warm_up_s(self) -> float:
        return min(self.wanted.seconds * WARM_UP, MOST_WARM_UP_S)

    def closed(self, clients: int) -> tuple[Figures, Samples]:
        """So many clients, each with one request at a time."""
        if clients > (most := most_links()):
            raise Setup(
                "wrong_setting",
                f"this process may open {most} connections: raise it with `ulimit -n 4096`, or give fewer --clients",
            )
        samples = Load(self.connect()).run_closed(clients, self.warm_up_s + self.wanted.seconds)
        return summarize(samples, self.warm_up_s), samples

    def open(self, rate: float) -> Figures:
        """So many requests a second, whatever becomes of them."""
        seconds = self.warm_up_s + self.wanted.seconds
        times = ARRIVALS[self.wanted.arrivals](rate, seconds, 0)
        return summarize(Load(self.connect()).run_open(times.tolist(), seconds, most_links()), self.warm_up_s)

    def run(self, shown: Callable[[Step], None]) -> Report:
        wanted, report = self.wanted, Report(self.wanted)
        if wanted.scenario is not None:
            report.verdict = run_scenario(wanted.scenario, self, wanted.slo_s, shown)
            report.figures, report.sweep = report.verdict.figures, report.verdict.sweep
        elif wanted.clients is not None:
            report.figures, _ = self.closed(wanted.clients)
        elif wanted.rate is not None:
            report.figures = self.open(wanted.rate)
        else:
            report.sweep = sweep(self.open, first_rate(self), wanted.slo_s, shown)
            report.figures = report.sweep.knee.figures if report.sweep.knee else None
        return report


def bench(wanted: Wanted, shown: Callable[[Step], None]) -> Report:
    """Measure. Raises ForetellError when there is nothing to measure; ``shown`` is told each step of a sweep as it ends."""
    if wanted.scenario == OFFLINE and "://" not in wanted.where:
        return _offline(wanted)
    with find_target(wanted.where, wanted.protocol, wanted.model) as target:
        connect, rows = _connect(wanted, target)
        report = Session(wanted, connect).run(shown)
        report.model, report.rows = target.model.name, rows
        return report


def _connect(wanted: Wanted, target: Target) -> tuple[Callable[[], Network], str]:
    """What opens connections that send rows, tried once, and whose rows they are. Raises Unavailable or Setup.

    A model may refuse rows that are made up, as one of pictures does: then the server may know one that it takes.
    """
    rows = ROWS[wanted.scenario] if wanted.scenario else wanted.rows
    if wanted.data is not None:
        return _tried(target, read_rows(target.model, wanted.data, rows)[:MOST_BODIES_OF_A_FILE]), OF_A_FILE
    try:
        return _tried(target, make_rows(target.model, rows)), MADE_UP
    except Setup:
        example = example_rows(target.model, target.http, rows) if target.http else []
        if not example:
            raise
        return _tried(target, example), EXAMPLE


def _tried(target: Target, inputs: list[Arrays]) -> Callable[[], Network]:
    connect = network(target.address, target.protocol, target.model, inputs)
    try:
        check_first(connect())
    except Setup as error:
        if target.protocol == "grpc" or not (
            told := told_of(target.address, *write_infer(target.protocol, target.model, inputs[0]))
        ):
            raise
        raise Setup(error.code, f"{error.message}; the server said: {told}") from error
    return connect


def _offline(wanted: Wanted) -> Report:
    from foretell.repository import open_pipeline

    pipeline = open_pipeline(wanted.where)
    verdict = run_offline(pipeline, wanted.seconds, min(wanted.seconds * WARM_UP, MOST_WARM_UP_S))
    pipeline.close()
    return Report(wanted, wanted.where, verdict=verdict)
