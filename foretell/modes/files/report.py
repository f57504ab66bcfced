"""What became of a run."""

from dataclasses import dataclass
from typing import Any

from foretell.storage import Place


@dataclass(frozen=True)
class Report:
    """What became of a run. ``rows`` had an answer, ``passed_over`` were not chosen, ``resumed`` were done by a run before.

    ``model_s`` is the time in the pipeline, summed over the workers; ``workers`` how many there were.
    """

    rows: int
    failed: int
    seconds: float
    model_s: float
    target: Place
    errors: Place | None = None
    passed_over: int = 0
    resumed: int = 0
    workers: int = 1
    price_per_hour: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """Of this run alone, without what was done before."""
        return (self.rows + self.failed - self.resumed) / self.seconds if self.seconds else 0.0

    @property
    def model_share(self) -> float:
        """The share of the workers' time that was spent in the pipeline, 0 to 1."""
        return min(1.0, self.model_s / (self.seconds * self.workers)) if self.seconds else 0.0

    @property
    def cost_per_million(self) -> float | None:
        """Of rows, at ``price_per_hour``; None if no price is known."""
        if not self.price_per_hour or not self.rows_per_s:
            return None
        return self.price_per_hour / 3600 / self.rows_per_s * 1e6

    def facts(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "rows": self.rows,
            "failed": self.failed,
            "passed_over": self.passed_over,
            "resumed": self.resumed,
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(self.rows_per_s, 1),
            "model_share": round(self.model_share, 4),
            "cost_per_million_rows": self.cost_per_million,
            "workers": self.workers,
            "target": str(self.target),
            "errors": None if self.errors is None else str(self.errors),
        }
