"""What a person sees of a search: a line for each look on standard error, and what came of it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from foretell.observe.logs import escape
from foretell.optimize.tune.objective import Objective
from foretell.optimize.tune.report import Report
from foretell.optimize.tune.search import Look
from foretell.optimize.tune.space import show_count
from foretell.optimize.tune.variants import Variant


class Lines:
    """A line for each variant and look."""

    def __init__(self, objective: Objective, file: TextIO = sys.stderr, clock: Callable[[], float] = time.monotonic) -> None:
        self.objective = objective
        self.file = file
        self.clock = clock
        self.began = clock()
        self.seconds = 0.0
        self.final = False

    def variant(self, variant: Variant) -> None:
        scores = variant.scores
        shown = "" if scores is None else f"{scores.metric} {scores.after:.4f}, {variant.size_bytes:,} bytes"
        self._say(f"  {variant.name:<22} {f'refused: {variant.refused}' if variant.refused else shown}")

    def begins(self, candidates: int, seconds: float) -> None:
        self.began, self.seconds = self.clock(), seconds
        self._say(f"{show_count(candidates)} to begin with, about {seconds:,.0f} s; Ctrl-C ends it and keeps what was measured")

    def look(self, look: Look, *, final: bool = False) -> None:
        if final and not self.final:
            self._say("the best beside the defaults, by turns:")
        self.final |= final
        tail = look.latency_s.get(self.objective.percentile)
        figures = look.problem or f"{look.rate:10,.1f}/s  {self.objective.percentile} {(tail or 0.0) * 1e3:8,.2f} ms"
        told = "" if look.met or look.problem else "  too slow"
        self._say(f"  {self.clock() - self.began:5.0f} s  {look.candidate!s:<58} {figures}{told}")

    def _say(self, text: str) -> None:
        print(escape(text), file=self.file, flush=True)


def show(report: Report, target: Path) -> None:
    """What was chosen, and the line to type."""
    print(f"{report.model}, {report.objective}: {report.sentence}")
    for doubt in report.doubts:
        print(doubt)
    if report.chosen is None:
        print(f"no model was written; {escape(str(target))} has the table of what was tried")
        return
    print(f"chosen: {report.chosen}")
    folder = escape(str(target))
    print(f"serve it: foretell serve {folder} --name {escape(report.model)} --config {folder}/settings.toml")
