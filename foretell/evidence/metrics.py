"""How good answers are: accuracy, F1, AUC, RMSE, agreement, or the user's own function; with what chance alone could do."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from foretell.backends import reading_model
from foretell.errors import Setup
from foretell.evidence.answers import Floats, Places, Reading, Said
from foretell.plugins import did_you_mean
from foretell.tensors import Array
from foretell.user_code import CURE, load_attribute

Interval = tuple[float, float]
DRAWS, FEWER_DRAWS, MANY_VALUES = 1000, 200, 20_000
AGREEMENT = "agreement"
SHARES = ("accuracy", AGREEMENT)
"""Metrics that are, of classes, the share of rows that are right."""


@dataclass(frozen=True)
class Metric:
    """``score`` of what a model said and the truth: class numbers, or FP64 values; for a function of the user's, the labels.

    ``higher``: whether more is better.
    """

    name: str
    score: Callable[[Said, Array], float]
    higher: bool = True
    own: bool = False

    def loss(self, before: float, after: float) -> float:
        """How much worse ``after`` is: negative when it is better."""
        return before - after if self.higher else after - before


@dataclass(frozen=True)
class Scores:
    """The metric of the original and of a candidate on the same rows, each with the 95 % interval of its bootstrap.

    ``loss`` is paired: both models are scored on the same draws. ``agreement`` is the share of rows with the same class, or for
    numbers the share of the original's variance that the candidate explains.
    """

    metric: str
    rows: int
    before: float
    after: float
    loss: float
    agreement: float
    before_interval: Interval
    after_interval: Interval
    loss_interval: Interval


def accuracy(said: Said, truth: Array) -> float:
    """The share of rows whose class is right."""
    assert said.classes is not None
    return float((said.classes == truth).mean())


def f1(said: Said, truth: Array) -> float:
    """The mean over the classes that occur of 2 TP / (2 TP + FP + FN): macro-averaged."""
    assert said.classes is not None
    count = int(max(truth.max(initial=0), said.classes.max(initial=0))) + 1
    hits = np.bincount(truth[said.classes == truth], minlength=count)
    there = np.bincount(truth, minlength=count)
    said_so = np.bincount(said.classes[said.classes >= 0], minlength=count)
    occur = there > 0
    return float((2 * hits[occur] / (there[occur] + said_so[occur])).mean())


def auc(said: Said, truth: Array) -> float:
    """Area under the ROC curve, ties counting half; of more than two classes the mean of each against the rest."""
    assert said.scores is not None
    columns = [1] if said.scores.shape[1] == 2 else range(said.scores.shape[1])
    areas = [_area(said.scores[:, each], truth == each) for each in columns]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else 0.5


def rmse(said: Said, truth: Array) -> float:
    """The root of the mean squared error."""
    assert said.values is not None
    return float(np.sqrt(np.mean((said.values.reshape(-1) - truth.astype(np.float64)) ** 2)))


def agreement(said: Said, truth: Array) -> float:
    """The share of rows with the class of the original; for numbers 1 - squared difference by the original's variance."""
    if said.classes is not None:
        return accuracy(said, truth)
    assert said.values is not None
    values = truth.astype(np.float64)
    spread = float(((values - values.mean(axis=0)) ** 2).sum())
    apart = float(((said.values - values) ** 2).sum())
    return 1.0 if apart == 0 else 1 - apart / spread if spread else 0.0


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("accuracy", accuracy),
    "f1": Metric("f1", f1),
    "auc": Metric("auc", auc),
    "rmse": Metric("rmse", rmse, higher=False),
    AGREEMENT: Metric(AGREEMENT, agreement),
}


def choose_metric(name: str | None, reading: Reading, labels: Array | None) -> Metric:
    """The metric by name, ``app.py:function``, or what fits: accuracy for classes, rmse for numbers, agreement without labels.

    Raises Setup: ``unlabelled``, ``wrong_metric``, ``broken_code``.
    """
    if name is not None and ".py:" in name:
        return _own(name)
    if name is not None and name not in METRICS:
        raise Setup("wrong_metric", f"there is no metric {name!r}{did_you_mean(name, dict(METRICS))}, or app.py:function")
    if name == AGREEMENT or (labels is None and name is None):
        return METRICS[AGREEMENT]
    if labels is None:
        raise Setup("unlabelled", f"the rows have no labels, which {name} needs: name their column with --label")
    chosen = METRICS[name or ("accuracy" if reading.order else "rmse")]
    _check_fit(chosen.name, reading, labels)
    return chosen


def compare(metric: Metric, before: Said, after: Said, truth: Array, original: Array) -> Scores:
    """Both models on the same rows; ``truth`` is what ``metric`` takes, ``original`` what the original answered."""
    one, two = metric.score(before, truth), metric.score(after, truth)
    draws = bootstrap(metric, (before, after), truth)
    losses = [metric.loss(*pair) for pair in draws.tolist()]
    return Scores(
        metric=metric.name,
        rows=len(truth),
        before=one,
        after=two,
        loss=metric.loss(one, two),
        agreement=agreement(after, original),
        before_interval=(one, one) if metric.name == AGREEMENT else _of_score(metric, one, draws[:, 0], before),
        after_interval=_of_score(metric, two, draws[:, 1], after),
        loss_interval=interval(np.array(losses)),
    )


def bootstrap(metric: Metric, said: tuple[Said, ...], truth: Array, seed: int = 0) -> Floats:
    """The metric of each on the same rows drawn with replacement: [draws, models]. Efron 1979; the same numbers each time."""
    width = 1 if said[0].scores is None else said[0].scores.shape[1]
    count = FEWER_DRAWS if metric.own or len(truth) * width > MANY_VALUES else DRAWS
    dice = np.random.default_rng(seed)
    found = np.empty((count, len(said)))
    for draw in range(count):
        rows = dice.integers(0, len(truth), len(truth))
        found[draw] = [metric.score(each.take(rows), truth[rows]) for each in said]
    return found


def interval(draws: Floats) -> Interval:
    """The middle 95 %."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def share_interval(share: float, rows: int) -> Interval:
    """95 % for a share of 0 or 1, which every draw of a bootstrap repeats: the rule of three, 3 / ``rows`` from its end.

    https://en.wikipedia.org/wiki/Rule_of_three_(statistics)
    """
    width = min(1.0, 3 / rows)
    return (1.0 - width, 1.0) if share == 1 else (0.0, width)


def _of_score(metric: Metric, score: float, draws: Floats, said: Said) -> Interval:
    """Of one model, by the draws of its score."""
    if metric.name in SHARES and said.classes is not None and score in (0.0, 1.0):
        return share_interval(score, len(said.classes))
    return interval(draws)


def _area(scores: Floats, positive: Array) -> float | None:
    """By ranks (Mann and Whitney); None when one of the two kinds is not there."""
    yes = int(positive.sum())
    no = len(positive) - yes
    if not yes or not no:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def _check_fit(name: str, reading: Reading, labels: Array) -> None:
    if name == "rmse":
        if reading.scored is None or labels.dtype == np.object_:
            what = "texts" if labels.dtype == np.object_ else "classes, and no numbers"
            raise Setup("wrong_metric", f"rmse is for numbers, these are {what}: use accuracy, f1 or auc")
        return
    if not reading.order or labels.dtype == np.float64:
        what = "the labels are not whole" if reading.order else "the model answers numbers"
        raise Setup("wrong_metric", f"{name} is for classes, but {what}: use rmse, or a function of your own")
    classes: Places = reading.encode(labels)
    if len(np.unique(classes)) < 2:
        raise Setup("wrong_metric", f"every row has the label {reading.order[classes[0]]!r}: {name} needs rows of two classes")
    if name == "auc" and reading.scored is None:
        raise Setup("wrong_metric", "auc needs scores, and the model gives only the class itself: use accuracy or f1")


def _own(name: str) -> Metric:
    """``function(outputs, labels) -> float``; more is better, unless it has ``higher_is_better = False``."""
    function = load_attribute(name)
    if not callable(function):
        raise Setup("wrong_metric", f"{name} is no function: it is given outputs by name, and labels, and gives a number")

    def score(said: Said, truth: Array) -> float:
        with reading_model(name, CURE, "broken_code"):
            inspect.signature(function).bind(said.outputs, truth)
            return float(function(dict(said.outputs), truth))

    return Metric(name, score, bool(getattr(function, "higher_is_better", True)), own=True)
