"""The picture of a report: how many times better, and how much worse."""

import math
from pathlib import Path
from typing import Any

from foretell.evidence.case import Evidence
from foretell.evidence.verdict import LEAST_GAIN
from foretell.plugins import needs_extra

BETTER, WORSE, PLAIN = "#2a7f62", "#b3402e", "#5b6770"
MOST_LAYERS = 12
MOST_TICKS = 5
LEAST_NOISE = 1e-9
"""Where a layer without any is drawn."""


def draw(evidence: Evidence, target: Path) -> None:
    """Writes a PNG: gains, the metric with its intervals and the budget, and the layers by their noise if they are known."""
    with needs_extra("drawing a report", "optimize"):
        from matplotlib.figure import Figure
    layers = evidence.verdict.trouble[:MOST_LAYERS]
    figure = Figure(figsize=(14 if layers else 9, 3.8), layout="constrained")
    axes = figure.subplots(1, 3 if layers else 2)
    _draw_gains(axes[0], evidence)
    _draw_metric(axes[1], evidence)
    if layers:
        _draw_layers(axes[2], evidence)
    state = "good" if evidence.verdict.good else "forced" if evidence.wanted.force else "not good enough"
    figure.suptitle(f"{evidence.verb}: {evidence.source}  ({state})")
    figure.savefig(target, dpi=120)


def _draw_gains(axes: Any, evidence: Evidence) -> None:
    one, two = evidence.before, evidence.after
    ratios = {aim: gain.ratio for aim, gain in evidence.gains.items()}
    errors = {aim: gain.interval for aim, gain in evidence.gains.items()}
    for name, before, after in (("parameters", one.parameters, two.parameters), ("FLOPs", one.flops, two.flops)):
        if before and after:
            ratios[name] = before / after
            errors[name] = (ratios[name], ratios[name])
    names = list(ratios)[::-1]
    values = [ratios[name] for name in names]
    spread = [
        [max(0.0, ratios[name] - errors[name][0]) for name in names],
        [max(0.0, errors[name][1] - ratios[name]) for name in names],
    ]
    colours = [PLAIN if name != evidence.wanted.aim else BETTER if ratios[name] >= LEAST_GAIN else WORSE for name in names]
    axes.barh(names, values, color=colours, xerr=spread, ecolor="#222222", capsize=2)
    axes.axvline(1, color="#222222", linewidth=0.8)
    axes.axvline(LEAST_GAIN, color="#222222", linewidth=0.8, linestyle=":")
    right = max(*values, *(errors[name][1] for name in names), LEAST_GAIN) * 1.22
    axes.set_xlim(0, right)
    for place, name in enumerate(names):
        axes.text(max(ratios[name], errors[name][1]) + right * 0.015, place, f"{ratios[name]:.2f}", va="center")
    axes.set_title(f"times better than the original\n(asked: {evidence.wanted.aim}, dotted: {LEAST_GAIN})", fontsize=10)


def _draw_metric(axes: Any, evidence: Evidence) -> None:
    scores = evidence.scores
    rows = (("original", scores.before, scores.before_interval), ("changed", scores.after, scores.after_interval))
    allowed = evidence.wanted.budget.allowed(scores.before)
    fits = scores.loss <= allowed
    for place, (_, value, (low, high)) in enumerate(rows):
        colour = PLAIN if not place else BETTER if fits else WORSE
        error = [[max(0.0, value - low)], [max(0.0, high - value)]]
        axes.errorbar([place], [value], yerr=error, fmt="o", markersize=9, capsize=6, color=colour)
        axes.annotate(f"{value:.4f}", (place, value), xytext=(12, 0), textcoords="offset points", va="center")
    worse_is_lower = scores.loss == scores.before - scores.after
    axes.axhline(scores.before - allowed if worse_is_lower else scores.before + allowed, color="#222222", linestyle=":")
    axes.set_xticks(range(2), [name for name, _, _ in rows])
    axes.set_xlim(-0.5, 1.7)
    axes.set_title(f"{scores.metric} on {scores.rows} rows, with 95 % intervals\n(dotted: the budget)", fontsize=10)


def _draw_layers(axes: Any, evidence: Evidence) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    layers = evidence.verdict.trouble[:MOST_LAYERS][::-1]
    noises = [max(each.noise, LEAST_NOISE) for each in layers]
    axes.plot(noises, range(len(layers)), "o", color=PLAIN)  # no bars: an axis of logarithms has no 0 to begin them at
    axes.set_xscale("log")
    axes.set_xlim(10 ** math.floor(math.log10(min(noises)) - 0.1), 10 ** math.ceil(math.log10(max(noises)) + 0.1))
    axes.xaxis.set_major_locator(LogLocator(numticks=MOST_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(layers)), [_short(each.name) for each in layers])
    axes.grid(axis="y", linewidth=0.4)
    axes.set_title("noise that each layer alone\nadds to the answers", fontsize=10)


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"...{name[-25:]}"
