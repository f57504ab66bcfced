"""Metrics against scikit-learn's, what is read from a model's answers, and the intervals."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from foretell.evidence.answers import Reading, Said, choose_reading
from foretell.evidence.metrics import METRICS, accuracy, agreement, auc, bootstrap, choose_metric, compare, f1, interval, rmse
from foretell.tensors import Array, Arrays
from tests.evidence.test_data import refused

SEEDS = st.integers(0, 10_000)


def drawn(seed: int, classes: int, count: int = 60) -> tuple[Said, Array]:
    dice = np.random.default_rng(seed)
    scores = np.round(dice.dirichlet(np.ones(classes), count), 1)  # ties
    truth = np.concatenate([np.arange(classes), dice.integers(0, classes, count - classes)])
    return Said({}, scores.argmax(axis=1), scores), truth


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(2, 5))
def test_accuracy_f1_and_auc_are_those_of_scikit_learn(seed: int, classes: int) -> None:
    said, truth = drawn(seed, classes)
    assert said.scores is not None
    assert accuracy(said, truth) == pytest.approx(reference.accuracy_score(truth, said.classes))
    assert f1(said, truth) == pytest.approx(
        reference.f1_score(truth, said.classes, average="macro", labels=range(classes), zero_division=0)
    )
    areas = [reference.roc_auc_score(truth == each, said.scores[:, each]) for each in (range(classes) if classes > 2 else [1])]
    assert auc(said, truth) == pytest.approx(np.mean(areas))


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_rmse_is_that_of_scikit_learn(seed: int) -> None:
    dice = np.random.default_rng(seed)
    values, truth = dice.normal(size=(50, 1)), dice.normal(size=50)
    assert rmse(Said({}, values=values), truth) == pytest.approx(reference.root_mean_squared_error(truth, values[:, 0]))


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_agreement_of_numbers_is_the_variance_that_is_explained(seed: int) -> None:
    dice = np.random.default_rng(seed)
    original = dice.normal(size=(50, 1))
    other = original + dice.normal(size=(50, 1)) * 0.1
    assert agreement(Said({}, values=other), original) == pytest.approx(reference.r2_score(original, other))
    assert agreement(Said({}, values=original), original) == 1.0


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_the_interval_of_accuracy_is_as_wide_as_the_binomial_says(seed: int) -> None:
    dice = np.random.default_rng(seed)
    right = dice.random(400) < 0.8
    low, high = interval(
        bootstrap(METRICS["accuracy"], (Said({}, right.astype(np.int64)),), np.ones(400, np.int64), seed)[:, 0]
    )
    share = right.mean()
    width = 2 * 1.96 * np.sqrt(share * (1 - share) / 400)
    assert low <= share <= high
    assert high - low == pytest.approx(width, rel=0.2)


def test_the_loss_of_a_model_that_answers_the_same_has_no_width() -> None:
    said, truth = drawn(1, 3)
    found = compare(METRICS["accuracy"], said, said, truth, said.classes if said.classes is not None else truth)
    assert (found.loss, found.loss_interval, found.agreement) == (0.0, (0.0, 0.0), 1.0)
    assert found.before_interval[0] < found.before < found.before_interval[1]


@pytest.mark.parametrize(
    ("answers", "labels", "metric", "task"),
    [
        ({"y": np.eye(3)}, np.array([0, 1, 2]), None, "classes"),
        ({"y": np.array([[0.2], [0.9]])}, np.array([0, 1]), None, "classes"),
        ({"y": np.array([[-3.0], [9.0]])}, np.array([0, 1]), "auc", "classes"),
        ({"y": np.array([[20.0], [31.0]])}, np.array([19, 30]), None, "numbers"),
        ({"label": np.array([1, 2]), "probabilities": np.array([[0.9, 0.1], [0.2, 0.8]])}, np.array([1, 2]), None, "classes"),
        ({"label": np.array([b"a", b"b"], object)}, np.array([b"a", b"b"], object), None, "classes"),
        ({"tokens": np.zeros((2, 5, 7))}, None, None, "numbers"),
    ],
)
def test_the_task_is_seen_from_what_a_model_answers(
    answers: Arrays, labels: Array | None, metric: str | None, task: str
) -> None:
    assert bool(choose_reading(answers, labels, metric).order) == (task == "classes")


def test_scores_of_classes_that_do_not_begin_at_0_are_read_by_their_order() -> None:
    answers: Arrays = {"label": np.array([7, 9]), "probabilities": np.array([[0.9, 0.1], [0.2, 0.8]])}
    reading = choose_reading(answers, np.array([7, 9]), None)
    assert reading.encode(np.array([9, 7])).tolist() == [1, 0]
    assert reading.read(answers, answers).classes is not None
    assert accuracy(reading.read(answers, answers), reading.encode(np.array([7, 9]))) == 1.0


def test_one_score_that_is_no_probability_is_taken_for_a_logit() -> None:
    reading = choose_reading({"y": np.array([[-3.0], [0.2]])}, np.array([0, 1]), "accuracy")
    said = reading.read({"y": np.array([[-0.1], [0.1]])}, {})
    assert said.classes is not None
    assert said.classes.tolist() == [0, 1]


def test_text_labels_are_found_by_the_names_of_the_pipeline() -> None:
    reading = choose_reading({"y": np.eye(2)}, np.array([b"dog", b"cat"], object), None, ["dog", "cat"])
    assert reading.encode(np.array([b"cat"], object)).tolist() == [1]


def test_a_label_that_is_no_class_is_refused_by_its_row() -> None:
    with refused("wrong_metric", "row 1", "'5'"):
        Reading(("0", "1"), scored="y").encode(np.array([0, 5]))


def test_a_metric_that_does_not_fit_is_refused() -> None:
    classes = choose_reading({"y": np.eye(3)}, np.array([0, 1, 2]), None)
    numbers = choose_reading({"y": np.array([[20.0], [31.0]])}, np.array([1.5, 2.5]), None)
    with refused("wrong_metric", "one number a row"):
        choose_reading({"y": np.eye(3)}, np.array([0, 1, 2]), "rmse")
    with refused("wrong_metric", "use rmse"):
        choose_metric("accuracy", numbers, np.array([1.5, 2.5]))
    with refused("wrong_metric", "two classes"):
        choose_metric("f1", classes, np.array([1, 1, 1]))
    with refused("wrong_metric", "scores"):
        choose_metric("auc", Reading(("0", "1"), decided="label"), np.array([0, 1]))
    with refused("wrong_metric", "accuracy"):
        choose_metric("acuracy", classes, np.array([0, 1, 2]))
    with refused("unlabelled", "--label"):
        choose_metric("accuracy", classes, None)


def test_without_labels_the_original_is_agreed_with() -> None:
    assert choose_metric(None, choose_reading({"y": np.eye(3)}, None, None), None).name == "agreement"


def test_a_function_of_the_users_own_is_given_outputs_and_labels(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def cost(outputs, labels):\n    return float((outputs['y'] - labels).mean())\ncost.higher_is_better = False\n"
    )
    metric = choose_metric(f"{tmp_path}/mine.py:cost", Reading(), np.array([1.0, 2.0]))
    assert metric.score(Said({"y": np.array([2.0, 4.0])}), np.array([1.0, 2.0])) == 1.5
    assert metric.loss(1.0, 3.0) == 2.0


def test_a_function_that_fails_is_told_with_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def cost(outputs):\n    return 1\n")
    with refused("broken_code", "cost"):
        choose_metric(f"{tmp_path}/mine.py:cost", Reading(), np.array([1.0])).score(Said({}), np.array([1.0]))


def test_no_wrong_row_among_a_few_is_no_certainty() -> None:
    truth = np.arange(60) % 2
    right, wrong = Said({}, truth), Said({}, 1 - truth)
    found = compare(METRICS["accuracy"], right, wrong, truth, truth)
    assert found.before_interval == (0.95, 1.0)
    assert found.after_interval == pytest.approx((0.0, 0.05))
