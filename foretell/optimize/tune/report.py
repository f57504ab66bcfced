"""What a search found, as plain data and as a table: tune.json and tune.md."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from foretell.optimize.tune.objective import Objective
from foretell.optimize.tune.search import Look
from foretell.optimize.tune.space import Candidate, show_count
from foretell.optimize.tune.variants import Variant
from foretell.optimize.tune.verdict import ROUNDS, Final

MOST_LINES = 40


@dataclass
class Report:
    """All of it. ``looks`` are the longest of each candidate; ``interrupted``: it was ended before its time."""

    model: str
    objective: Objective
    machine: str
    default: Candidate
    variants: Sequence[Variant] = ()
    budget: str = ""
    looks: dict[Candidate, Look] = field(default_factory=dict)
    final: Final | None = None
    interrupted: bool = False

    def add(self, look: Look) -> None:
        """A look; of one candidate the longest counts."""
        before = self.looks.get(look.candidate)
        if before is None or look.seconds >= before.seconds:
            self.looks[look.candidate] = look

    @property
    def chosen(self) -> Candidate | None:
        """What is written: only what is surely better than the defaults."""
        return self.final.best.candidate if self.final is not None and self.final.better else None

    @property
    def sentence(self) -> str:
        if self.final is None:
            return "it was interrupted: nothing was chosen" if self.interrupted else "nothing was chosen"
        return self.final.sentence

    @property
    def doubts(self) -> tuple[str, ...]:
        return self.final.doubts if self.final is not None else ()

    def variant(self, candidate: Candidate) -> Variant:
        return next(each for each in self.variants if each.name == candidate.variant)

    def best_first(self) -> list[Look]:
        return sorted(self.looks.values(), key=lambda look: look.merit, reverse=True)

    def front(self) -> set[Candidate]:
        """Those that no other beats in throughput, latency, size and energy at once."""
        good = [look for look in self.looks.values() if look.latency_s]
        points = {look.candidate: self._point(look) for look in good}
        return {one for one, point in points.items() if not any(_beats(other, point) for other in points.values())}

    def _point(self, look: Look) -> tuple[float, ...]:
        """The smaller the better in each place."""
        tail = look.latency_s[self.objective.percentile]
        return (-look.rate, tail, self.variant(look.candidate).size_bytes, look.joules or 0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain data. Times are in seconds, sizes in bytes, energy in joules of one answer."""
        front = self.front()
        return {
            "model": self.model,
            "objective": asdict(self.objective),
            "machine": self.machine,
            "budget": self.budget,
            "interrupted": self.interrupted,
            "sentence": self.sentence,
            "doubts": list(self.doubts),
            "default": asdict(self.default),
            "chosen": asdict(self.chosen) if self.chosen else None,
            "variants": [_variant(each) for each in self.variants],
            "tried": [{**_look(look), "front": look.candidate in front} for look in self.best_first()],
            "final": None if self.final is None else _final(self.final),
        }

    def to_markdown(self) -> str:
        lines = [
            f"# {self.model}, tuned",
            "",
            f"Objective: {self.objective}. {self.machine}",
            "",
            f"**{self._capital()}.**",
            "",
        ]
        lines += ["| runtime and precision | file | metric | agreement | |", "|---|---:|---:|---:|---|"]
        lines += [_variant_line(each) for each in self.variants]
        if self.final is not None:
            lines += ["", "## The best beside the default, in alternating rounds", "", *HEAD]
            lines += [self._line(each.look, each.missed) for each in self.final.contenders]
            lines += ["", *(f"- {doubt[0].upper()}{doubt[1:]}." for doubt in self.doubts)] if self.doubts else []
        lines += ["", f"## What was tried ({show_count(len(self.looks))})", "", *HEAD]
        lines += [self._line(look) for look in self.best_first()[:MOST_LINES]]
        more = len(self.looks) - MOST_LINES
        lines += ["", f"{more} more are in tune.json."] if more > 0 else []
        return "\n".join([*lines, "", "![Throughput and latency of all candidates](tune.png)", ""])

    def _capital(self) -> str:
        return self.sentence[0].upper() + self.sentence[1:]

    def _line(self, look: Look, missed: int = 0) -> str:
        each = look.candidate
        mark = ("chosen" if each == self.chosen else "") or ("default" if each == self.default else "")
        note = look.problem or ("" if look.met else "does not meet it")
        note += f"{'; ' * bool(note)}missed in {missed} of {ROUNDS} rounds" if missed else ""
        cells = [each.variant, f"{each.workers} x {each.threads}", each.batch_rows, f"{each.max_wait_s * 1e3:g} ms"]
        figures = [look.clients or "", f"{look.rate:,.1f}", _ms(look, "p50"), _ms(look, self.objective.percentile)]
        energy = "" if look.joules is None else f"{look.joules:.3g} J"
        return f"| {' | '.join(map(str, [*cells, *figures, energy, mark, note.replace('|', ' ')]))} |"


HEAD = (
    "| | workers x threads | batch rows | wait | clients | answers/s | p50 | tail | energy | | |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---|",
)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def _ms(look: Look, name: str) -> str:
    return f"{look.latency_s[name] * 1e3:,.2f} ms" if look.latency_s else ""


def _look(look: Look) -> dict[str, Any]:
    found = asdict(look)
    return {**found.pop("candidate"), **found}


def _variant(variant: Variant) -> dict[str, Any]:
    scores = None if variant.scores is None else asdict(variant.scores)
    told = {"name": variant.name, "runtime": variant.runtime, "precision": variant.precision, "size_bytes": variant.size_bytes}
    return {**told, "scores": scores, "refused": variant.refused}


def _variant_line(variant: Variant) -> str:
    size = f"{variant.size_bytes / 1e3:,.1f} KB" if variant.size_bytes else ""
    scores = variant.scores
    shown = ("", "") if scores is None else (f"{scores.metric} {scores.after:.4f}", f"{scores.agreement:.4f}")
    refused = f"refused: {variant.refused}".replace("|", " ") if variant.refused else ""
    return f"| {variant.name} | {size} | {shown[0]} | {shown[1]} | {refused} |"


def _final(final: Final) -> dict[str, Any]:
    rounds = [
        {**asdict(each.candidate), "met": each.met, "missed": each.missed, "rate": each.rate}
        | {"rounds": [_look(look) for look in each.looks]}
        for each in final.contenders
    ]
    shown = [each if math.isfinite(each) else None for each in (final.ratio, *final.interval)]
    return {"better": final.better, "ratio": shown[0], "interval": shown[1:], "contenders": rounds}
