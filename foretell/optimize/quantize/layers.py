"""Which layers can bear it: all of them if the budget holds; else the most sensitive are left out, as few as will do."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foretell.evidence.case import Case, loaded
from foretell.evidence.progress import Progress
from foretell.evidence.verdict import Layer
from foretell.optimize.quantize.method import Method
from foretell.tensors import Arrays

NOISE_ROWS = 128
MARGIN = 0.5
"""The share of the budget that a search on some rows may use up: other rows will be a little worse."""


@dataclass(frozen=True)
class Choice:
    """The layers ``taken`` to be changed, and those ``left``. ``noises``: of each alone, worst first, if looked for."""

    taken: tuple[str, ...]
    left: tuple[str, ...] = ()
    noises: tuple[Layer, ...] = ()


def choose_layers(case: Case, method: Method, leave_out: Collection[str], place: Path, progress: Progress) -> Choice:
    """The fewest of the most sensitive layers are left out with which the loss on the rows to fit on holds the budget.

    If nothing does, all are taken: the verdict will refuse them, and name the worst. ``place``: a folder for trials.
    """
    names = tuple(layer.name for layer in method.layers if layer.name not in leave_out)
    given = tuple(leave_out)
    trial = Trial(case, method, place / "trial.onnx")
    progress.say("trying all layers")
    if trial.loss(names) <= case.allowed_loss * MARGIN:
        return Choice(names, given)
    noises = trial.noises(names, progress)
    order = [layer.name for layer in noises]
    for allowed in (case.allowed_loss * MARGIN, case.allowed_loss):
        count = _fewest(trial, order, allowed, progress)
        if count is not None:
            return Choice(tuple(order[count:]), (*given, *order[:count]), noises)
    return Choice(names, given, noises)


class Trial:
    """Writes, loads and asks one choice of layers after another."""

    def __init__(self, case: Case, method: Method, path: Path) -> None:
        self.case = case
        self.method = method
        self.path = path

    def loss(self, taken: Sequence[str]) -> float:
        """Of the metric, on the rows to fit on."""
        self.method.write(taken, self.path)
        with loaded(self.path) as model:
            return self.case.quick_loss(model)

    def noises(self, names: Sequence[str], progress: Progress) -> tuple[Layer, ...]:
        """What each layer alone does to the answers, worst first."""
        kinds = {layer.name: layer.kind for layer in self.method.layers}
        rows = {name: array[:NOISE_ROWS] for name, array in self.case.fit.rows.items()}
        want = self.case.answers(self.case.original, rows)
        found = []
        for number, name in enumerate(names):
            progress.say(f"looking for sensitive layers: {number + 1} of {len(names)}", number / len(names))
            self.method.write([name], self.path)
            with loaded(self.path) as model:
                found.append(Layer(name, kinds[name], noise_of(want, self.case.answers(model, rows))))
        return tuple(sorted(found, key=lambda layer: -layer.noise))


def noise_of(want: Arrays, got: Arrays) -> float:
    """The squared difference by the squares of what was wanted, of the output where it is largest; floats only."""
    noises = [0.0]
    for name, array in want.items():
        if array.dtype.kind in "iubOSU":
            continue
        one, other = array.astype(np.float64), got[name].astype(np.float64)
        centred = one - one.mean(axis=0)
        power = float((centred**2).sum()) or float((one**2).sum()) or 1.0
        noises.append(float(((other - one) ** 2).sum()) / power)
    return max(noises)


def _fewest(trial: Trial, order: Sequence[str], allowed: float, progress: Progress) -> int | None:
    """The smallest number of leading layers to leave out, by halving; None if it takes all of them."""
    low, high = 0, len(order)  # with `low` left out it is too much, with `high`, all of them, nothing is lost
    while high - low > 1:
        middle = (low + high) // 2
        progress.say(f"leaving out {middle} of {len(order)} layers")
        if trial.loss(order[middle:]) <= allowed:
            high = middle
        else:
            low = middle
    return high if high < len(order) else None
