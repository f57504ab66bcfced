"""What a server must keep to: ``p99=20ms`` says that 99 of 100 answers come within 20 ms."""

import re
from dataclasses import dataclass

from foretell.bench.figures import PERCENTILES, Figures
from foretell.errors import Setup

_UNITS_S = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_FORM = re.compile(r"\s*(p[0-9.]+)\s*(?:=|<=|<)\s*([0-9]*\.?[0-9]+)\s*(us|µs|ms|s)\s*")


@dataclass(frozen=True)
class Objective:
    """``percentile`` is one of those that are measured; ``bound_s`` the longest it may be."""

    percentile: str
    bound_s: float

    @classmethod
    def parse(cls, text: str) -> "Objective":
        """Of ``p99=20ms``. Raises Setup ``wrong_objective``."""
        found = _FORM.fullmatch(text)
        percentiles = ", ".join(PERCENTILES)
        if found is None:
            example = f"write a percentile ({percentiles}) and a time in us, ms or s, as in p99=20ms"
            raise Setup("wrong_objective", f"{text!r} is no objective: {example}")
        percentile, bound_s = found[1], float(found[2]) * _UNITS_S[found[3]]
        if percentile not in PERCENTILES:
            raise Setup("wrong_objective", f"{percentile} is not measured: use one of {percentiles}")
        if bound_s <= 0:
            raise Setup("wrong_objective", f"{text!r} leaves no time for an answer: write a time above 0, as in p99=20ms")
        return cls(percentile, bound_s)

    def of(self, figures: Figures) -> float:
        """What is bounded, in seconds."""
        return figures.latency_s[self.percentile]

    def met_by(self, figures: Figures) -> bool:
        """Whether all requests were answered well, and quickly enough."""
        return figures.good > 0 and not figures.outcomes and self.of(figures) <= self.bound_s

    def __str__(self) -> str:
        return f"{self.percentile} within {self.bound_s * 1e3:g} ms"
