"""Whether a candidate is worth having: better by enough in what was asked, and worse by no more than the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from foretell.errors import Setup
from foretell.evidence.blame import Cost
from foretell.evidence.measure import Gain
from foretell.evidence.metrics import Scores

Aim = Literal["latency", "throughput", "size"]
LEAST_GAIN = 1.1
MOST_TROUBLE = 5
"""Layers that a refusal names."""


@dataclass(frozen=True)
class Budget:
    """The largest loss of the metric: in its own units, or ``relative`` to what the original reaches."""

    loss: float = 0.01
    relative: bool = True

    def __str__(self) -> str:
        return f"{self.loss * 100:g} %" if self.relative else f"{self.loss:g}"

    def allowed(self, before: float) -> float:
        return self.loss * abs(before) if self.relative else self.loss


@dataclass(frozen=True)
class Wanted:
    """What is asked of a candidate. ``metric`` None: what fits the model; ``label`` and ``map`` as for ``data.read_data``.

    ``force``: a candidate that is not good enough is written all the same, marked as such. ``timing_s``: seconds for each model
    at each batch size.
    """

    aim: Aim = "latency"
    budget: Budget = Budget()
    metric: str | None = None
    label: str | None = None
    map: Mapping[str, str] = field(default_factory=dict)
    force: bool = False
    timing_s: float = 0.75


@dataclass(frozen=True)
class Layer:
    """A layer by the name of its node, and what it alone does to the answers: noise by signal, 0 for none."""

    name: str
    kind: str
    noise: float


@dataclass(frozen=True)
class Verdict:
    """``reasons`` why it is not good, none if it is. ``doubts``: what figures leave open. ``trouble``: layers, worst first.

    ``costs``: where its time or its bytes go, if it is not better than the original.
    """

    reasons: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    trouble: tuple[Layer, ...] = ()
    costs: tuple[Cost, ...] = ()

    @property
    def good(self) -> bool:
        return not self.reasons

    def sentence(self) -> str:
        """The reasons, and the layers that were the trouble."""
        blamed = ", ".join(f"{layer.name} ({layer.kind})" for layer in self.trouble[:MOST_TROUBLE])
        spent = ", ".join(f"{cost.share:.0%} on {cost.name} ({cost.kind})" for cost in self.costs[:MOST_TROUBLE])
        told = "; ".join(self.reasons) + (f". The layers that were most trouble: {blamed}" if blamed else "")
        return told + (f". It is spent: {spent}" if spent else "")


def parse_budget(text: str) -> Budget:
    """``1%`` of what the original reaches, or ``0.01`` in the metric's own units. Raises Setup ``wrong_setting``."""
    number = text.strip().removesuffix("%")
    try:
        loss = float(number)
    except ValueError:
        loss = -1.0
    if not 0 <= loss < float("inf"):
        raise Setup("wrong_setting", f"--budget {text!r} is no largest loss: write 0.01, or 1% of what the original reaches")
    relative = text.strip().endswith("%")
    return Budget(loss / 100 if relative else loss, relative)


def judge(
    scores: Scores, gains: Mapping[str, Gain], wanted: Wanted, trouble: Sequence[Layer] = (), costs: Sequence[Cost] = ()
) -> Verdict:
    """``gains`` of the candidate by aim. Its loss is judged by the value, and doubted where the interval goes beyond."""
    reasons, doubts = [], []
    gain, allowed = gains[wanted.aim], wanted.budget.allowed(scores.before)
    if not gain.ratio >= LEAST_GAIN:
        reasons.append(f"{wanted.aim} is {gain.ratio:.2f} times as good as the original's, at least {LEAST_GAIN} is wanted")
    elif gain.interval[0] < LEAST_GAIN:
        doubts.append(f"the gain of {wanted.aim} may be as low as {gain.interval[0]:.2f} (95 %)")
    lost = f"{scores.metric} goes from {scores.before:.4f} to {scores.after:.4f}, a loss of {scores.loss:.4f}"
    if not scores.loss <= allowed:
        reasons.append(f"{lost}, where {allowed:.4f} is allowed")
    elif scores.loss_interval[1] > allowed:
        doubts.append(f"on {scores.rows} rows the loss may be as large as {scores.loss_interval[1]:.4f} (95 %)")
    return Verdict(tuple(reasons), tuple(doubts), tuple(sorted(trouble, key=lambda layer: -layer.noise)), tuple(costs))
