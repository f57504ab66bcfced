from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn.metrics import top_k_accuracy_score

from foretell import steps
from foretell.errors import Broken, Setup
from foretell.tensors import Datatype, TensorSpec

labels: Any = steps.labels

PETS = ["cat", "dog", "fish"]


def words(*values: bytes) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_class_numbers_become_labels() -> None:
    got = labels.decode(PETS)({"x": np.array([[2, 0], [1, 1]])})["x"]
    assert got.tolist() == [[b"fish", b"cat"], [b"dog", b"dog"]]


@pytest.mark.parametrize("number", [-1, 3])
def test_a_class_number_without_a_label_is_the_models_fault(number: int) -> None:
    with pytest.raises(Broken, match="3 labels"):
        labels.decode(PETS)({"x": np.array([0, number])})


@given(arrays.arrays(np.float32, (5, 3), elements=st.floats(0, 1, width=32)), st.integers(1, 3))
def test_top_k_is_a_sort_by_probability_with_the_earlier_label_first(probabilities: Any, k: int) -> None:
    got = labels.top_k(k, PETS)({"x": probabilities})
    for row, probability, label in zip(probabilities, got["probability"], got["label"], strict=True):
        wanted = sorted(range(3), key=lambda at: (-row[at], at))[:k]
        assert [name.decode() for name in label] == [PETS[at] for at in wanted]
        assert probability.tolist() == [row[at] for at in wanted]


def test_top_k_hits_as_often_as_scikit_learn_counts() -> None:
    random = np.random.default_rng(0)
    truth, probabilities = random.integers(0, 3, 200), random.random((200, 3))
    got = labels.top_k(2, PETS)({"x": probabilities})["label"]
    hits = np.mean([PETS[at].encode() in row for at, row in zip(truth, got, strict=True)])
    assert hits == pytest.approx(top_k_accuracy_score(truth, probabilities, k=2))


def test_labels_come_from_a_file_with_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("cat \r\ndög\r\nfish\r\n\r\n".encode())
    got = labels.top_k(1, str(path))({"x": np.array([[0, 1, 0]])})
    assert got["label"].tolist() == [["dög".encode()]]


def test_a_wrong_number_of_labels_is_refused_at_start() -> None:
    with pytest.raises(Setup, match=r"3 labels, but the model gives 4 classes"):
        labels.top_k(1, PETS).gives({"x": TensorSpec("x", Datatype.FP32, (4,))})
    with pytest.raises(Broken, match="4 classes"):
        labels.top_k(1, PETS)({"x": np.zeros((1, 4))})


def test_a_taken_output_name_is_refused_at_start_and_another_may_be_given() -> None:
    specs = {"label": TensorSpec("label", Datatype.INT64), "p": TensorSpec("p", Datatype.FP32, (3,))}
    with pytest.raises(Setup, match="already is a tensor 'label'"):
        labels.top_k(1, PETS, input="p").gives(specs)
    assert list(labels.top_k(1, PETS, label="best", input="p").gives(specs)) == ["label", "best", "probability"]


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2)])
def test_a_threshold_gives_verdict_and_probability(shape: tuple[int, ...]) -> None:
    positive = np.array([0.1, 0.7, 0.9], dtype=np.float32)
    rows = positive.reshape(shape) if shape != (3, 2) else np.stack([1 - positive, positive], axis=1)
    got = labels.threshold(0.7, labels=["safe", "threat"])({"x": rows})
    assert got["verdict"].tolist() == [b"safe", b"threat", b"threat"]
    np.testing.assert_array_equal(got["probability"], positive)


def test_a_threshold_divides_two_classes_only() -> None:
    with pytest.raises(Setup, match="two classes"):
        labels.threshold(0.5).gives({"x": TensorSpec("x", Datatype.FP32, (3,))})
    with pytest.raises(Broken, match="3 classes"):
        labels.threshold(0.5)({"x": np.zeros((1, 3))})


def test_below_the_confidence_the_answer_is_unsure() -> None:
    step = labels.abstain(0.6)
    given = {"label": np.array([[b"cat"], [b"dog"], [b"cat"]], dtype=object), "probability": np.array([[0.6], [0.5], [np.nan]])}
    assert step(given)["label"].tolist() == [[b"cat"], [b"unsure"], [b"unsure"]]
    assert given["label"].tolist() == [[b"cat"], [b"dog"], [b"cat"]]


def test_a_confident_no_is_no_abstention() -> None:
    step = labels.abstain(0.8, label="ask", input="verdict")
    given = {"verdict": words(b"no", b"no", b"yes"), "probability": np.array([0.1, 0.4, 0.9])}
    assert step(given)["verdict"].tolist() == [b"no", b"ask", b"yes"]


def test_steps_for_after_the_model_are_refused_before_it() -> None:
    for step in (labels.top_k(1, PETS), labels.threshold(0.5), labels.abstain(0.5)):
        with pytest.raises(Setup, match="after the model"):
            step.takes({"x": TensorSpec("x", Datatype.FP32)})


def test_what_comes_in_must_fit() -> None:
    text = TensorSpec("x", Datatype.BYTES)
    for step in (labels.decode(PETS), labels.top_k(1, PETS), labels.threshold(0.5), labels.abstain(0.5, input="x", by="x")):
        with pytest.raises(Setup, match="BYTES"):
            step.gives({"x": text})


def test_options_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "gap.txt").write_text("cat\n\ndog\n")
    (tmp_path / "latin.txt").write_bytes(b"d\xf6g")
    make: Callable[[], object]
    for make in (
        lambda: labels.decode([]),
        lambda: labels.decode(["cat", ""]),
        lambda: labels.decode(str(tmp_path / "empty.txt")),
        lambda: labels.decode(str(tmp_path / "gap.txt")),
        lambda: labels.decode(str(tmp_path / "latin.txt")),
        lambda: labels.top_k(0, PETS),
        lambda: labels.top_k(4, PETS),
        lambda: labels.threshold(1.5),
        lambda: labels.threshold(0.5, labels=["one"]),
        lambda: labels.threshold(0.5, labels="ab"),
        lambda: labels.abstain(0),
    ):
        with pytest.raises(Setup) as caught:
            make()
        assert caught.value.code == "broken_pipeline"
