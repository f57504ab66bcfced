"""``foretell distill``: students learn what teachers of several kinds answer, or are refused."""

from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier

from foretell.backends import ModelOptions, load_backend
from foretell.cli import cli
from foretell.errors import Setup
from foretell.evidence.case import open_case
from foretell.evidence.verdict import Budget, Wanted
from foretell.optimize.distill import distill
from foretell.optimize.distill.export import dense_model, forest_model
from foretell.optimize.distill.lesson import Lesson, form_of, learn_from
from foretell.optimize.distill.mlp import Teaching, train, width_for
from foretell.optimize.distill.teaching import Distilling, bytes_of
from foretell.optimize.distill.trees import train as grow
from tests.optimize.quantize.models import Builder, diabetes, digits_mlp, unscaled_cancer

onnx = pytest.importorskip("onnx")
WANTED = Wanted(aim="size", budget=Budget(0.03, relative=False), timing_s=0.05)
QUICK = Distilling(epochs=15, between=2)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return digits_mlp(tmp_path_factory.mktemp("mlp"))


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A forest of scikit-learn as ONNX, that names the class and gives probabilities."""
    from skl2onnx import to_onnx

    folder = tmp_path_factory.mktemp("forest")
    rows, labels = datasets.load_breast_cancer(return_X_y=True)
    fitted = RandomForestClassifier(60, random_state=0).fit(rows[:280].astype(np.float32), labels[:280])
    options = {id(fitted): {"zipmap": False}}
    (folder / "forest.onnx").write_bytes(to_onnx(fitted, rows[:1].astype(np.float32), options=options).SerializeToString())
    np.savez(folder / "rows.npz", X=rows[280:].astype(np.float32), label=labels[280:])
    return folder / "forest.onnx", folder / "rows.npz"


def silent(done: float) -> None:
    return None


def lesson_of(model: Path, data: Path, between: int = 1) -> Lesson:
    case = open_case(model, data, WANTED, fit_share=0.7)
    try:
        return learn_from(case, form_of(case), between, 0)
    finally:
        case.close()


def test_a_student_is_a_quarter_of_its_teacher_and_answers_alike(mlp: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    evidence = distill(*mlp, target, replace(QUICK, epochs=25), replace(WANTED, budget=Budget(0.04, relative=False)))
    assert target.stat().st_size <= mlp[0].stat().st_size * 0.25
    assert evidence.scores.agreement > 0.93
    assert "mlp with two hidden layers" in evidence.how["student"]


def test_trees_learn_from_a_forest_and_give_its_outputs_under_their_names(forest: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    evidence = distill(*forest, target, Distilling("trees", between=2), WANTED)
    assert evidence.gains["size"].ratio > 2
    model = load_backend(target)
    answers = model.forward({"X": np.zeros((4, 30), np.float32)})
    model.close()
    assert answers["label"].dtype == np.int64
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1, atol=1e-5)


def test_rows_without_labels_are_enough(mlp: tuple[Path, Path], tmp_path: Path) -> None:
    with np.load(mlp[1]) as file:
        np.savez(tmp_path / "rows.npz", x=file["x"])
    evidence = distill(
        mlp[0], tmp_path / "rows.npz", tmp_path / "small.onnx", QUICK, replace(WANTED, budget=Budget(0.15), force=True)
    )
    assert evidence.scores.metric == "agreement"
    assert evidence.scores.after > 0.85
    assert "share of labels" not in evidence.how


def test_numbers_are_learned_as_well_as_classes(tmp_path: Path) -> None:
    lesson = lesson_of(*diabetes(tmp_path))
    student = train(lesson, 12, Teaching(epochs=20), silent)
    left = lesson.wanted - student.raw(lesson.features())
    assert left.var() < 0.2 * lesson.wanted.var()


def test_one_score_of_two_classes_is_learned_as_one(tmp_path: Path) -> None:
    lesson = lesson_of(*unscaled_cancer(tmp_path))
    assert lesson.form.width == 1
    assert lesson.form.meaning == "probabilities"
    student = train(lesson, 8, Teaching(epochs=30), silent)
    sides = (student.raw(lesson.features()) > 0) == (lesson.wanted > 0)
    assert sides[: len(lesson.truth if lesson.truth is not None else [])].mean() > 0.93


def test_a_student_in_onnx_answers_as_it_does_in_numpy(forest: tuple[Path, Path]) -> None:
    lesson = lesson_of(*forest)
    rows = {name: array[:50] for name, array in lesson.rows.items()}
    features = lesson.features()[:50]
    dense, forest_student = train(lesson, 6, Teaching(epochs=2), silent), grow(lesson, 5, 0, silent)
    made = ((dense, dense_model(dense, lesson.form)), (forest_student, forest_model(forest_student, lesson.form)))
    for student, model in made:
        backend = load_backend(model.SerializeToString(), ModelOptions())
        raw = student.raw(features)
        wanted = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
        answers = backend.forward(rows)
        assert np.allclose(answers["probabilities"].astype(np.float64), wanted, atol=1e-4)
        assert answers["label"].tolist() == wanted.argmax(axis=1).tolist()
        backend.close()


def test_the_same_seed_gives_the_same_student(forest: tuple[Path, Path]) -> None:
    lesson = lesson_of(*forest)
    one, two, other = (train(lesson, 5, Teaching(epochs=2, seed=seed), silent) for seed in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(one.layers[0], two.layers[0], strict=True))
    assert not (one.layers[0][0] == other.layers[0][0]).all()


def test_a_hint_is_learned_and_leaves_no_trace_in_the_model(mlp: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    distill(*mlp, target, replace(QUICK, epochs=3, hint="relu1"), replace(WANTED, force=True))
    backend = load_backend(target)
    assert [spec.name for spec in backend.signature.outputs] == ["y"]
    assert "hint" in (target.with_suffix(".evidence") / "report.md").read_text()
    backend.close()


@pytest.mark.parametrize("parameters", [500, 5_000, 123_456])
def test_a_student_uses_its_budget_of_parameters_and_no_more(parameters: int) -> None:
    width = width_for(64, 10, parameters)
    counts = [64 * w + w + w * w + w + w * 10 + 10 for w in (width, width + 1)]
    assert counts[0] <= parameters < counts[1]


@pytest.mark.parametrize("size", ["100%", "10MB", "300%"])
def test_a_student_as_large_as_its_teacher_is_refused(mlp: tuple[Path, Path], tmp_path: Path, size: str) -> None:
    with pytest.raises(Setup, match="no smaller than its teacher") as refusal:
        distill(*mlp, tmp_path / "small.onnx", Distilling(size=size), WANTED)
    assert refusal.value.code == "larger_student"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (Distilling(size="tiny"), "write 40KB"),
        (Distilling(size="1%"), "raise --size"),
        (Distilling("bushes"), "no student 'bushes'"),
        (Distilling(temperature=0), "temperature"),
        (Distilling(labels=2), "share of labels"),
        (Distilling("trees", hint="relu0"), "trees have no layers"),
        (Distilling(hint="nowhere"), "no value 'nowhere'"),
    ],
)
def test_an_impossible_wish_is_refused_before_the_work(
    mlp: tuple[Path, Path], tmp_path: Path, options: Distilling, match: str
) -> None:
    with pytest.raises(Setup, match=match) as refusal:
        distill(*mlp, tmp_path / "small.onnx", options, WANTED)
    assert refusal.value.code == "wrong_setting"
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_with_an_output_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    builder = Builder()
    builder.add("Gemm", ["x", builder.weight("w", np.random.default_rng(0).normal(size=(8, 300)))], "hidden")
    builder.add("Gemm", ["hidden", builder.weight("v", np.random.default_rng(1).normal(size=(300, 3)))], "y")
    builder.add("Relu", ["hidden"], "inner")
    (tmp_path / "m.onnx").write_bytes(builder.bytes({"x": ["n", 8]}, {"y": ["n", 3], "inner": ["n", 300]}))
    rows = np.random.default_rng(2).normal(size=(200, 8)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows, label=np.arange(200) % 3)
    with pytest.raises(Setup, match="cannot be told") as refusal:
        distill(tmp_path / "m.onnx", tmp_path / "rows.npz", tmp_path / "small.onnx", QUICK, WANTED)
    assert refusal.value.code == "unsupported_graph"


def test_a_pickled_teacher_is_not_read_without_trust(forest: tuple[Path, Path], tmp_path: Path) -> None:
    joblib.dump(RandomForestClassifier(2).fit([[0.0], [1.0]], [0, 1]), tmp_path / "teacher.joblib")
    with pytest.raises(Setup) as refusal:
        distill(tmp_path / "teacher.joblib", forest[1], tmp_path / "small.onnx", QUICK, WANTED)
    assert refusal.value.code == "untrusted_model"


def test_sizes_are_read_in_bytes_or_as_a_share(mlp: tuple[Path, Path]) -> None:
    whole = mlp[0].stat().st_size
    assert bytes_of("10KB", mlp[0]) == 10_000
    assert bytes_of("10 KiB", mlp[0]) == 10_240
    assert bytes_of("50%", mlp[0]) == whole // 2


def test_the_verb_refuses_in_words_and_leaves_nothing(mlp: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["distill", str(mlp[0]), "--data", str(mlp[1]), "-o", str(tmp_path / "small.onnx"), "--size", "99MB"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1
    assert "larger_student" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("student", ["mlp", "trees"])
@pytest.mark.parametrize("names", [("features", "raw"), ("student/features", "student/raw"), ("layer0", "layer0.relu")])
def test_no_name_of_a_teacher_stands_in_a_students_way(
    student: str, names: tuple[str, str], mlp: tuple[Path, Path], tmp_path: Path
) -> None:
    given, answered = names
    teacher, rows = renamed(*mlp, given, answered, tmp_path)
    target = tmp_path / "small.onnx"
    lenient = replace(WANTED, budget=Budget(1.0, relative=False))
    distill(teacher, rows, target, Distilling(student, epochs=1, between=0), lenient)
    made = load_backend(target)
    assert [spec.name for spec in (*made.signature.inputs, *made.signature.outputs)] == [given, answered]
    made.close()


def renamed(teacher: Path, data: Path, given: str, answered: str, folder: Path) -> tuple[Path, Path]:
    """The teacher with other names of its input and its output, and its rows."""
    model = onnx.load(str(teacher))
    was = {model.graph.input[0].name: given, model.graph.output[0].name: answered}
    for node in model.graph.node:
        node.input[:] = [was.get(name, f"inner_{name}" if name else "") for name in node.input]
        node.output[:] = [was.get(name, f"inner_{name}" if name else "") for name in node.output]
    for each in model.graph.initializer:
        each.name = f"inner_{each.name}"
    for each in (*model.graph.input, *model.graph.output):
        each.name = was[each.name]
    del model.graph.value_info[:]
    onnx.save(model, str(folder / "teacher.onnx"))
    with np.load(data) as rows:
        np.savez(folder / "rows.npz", **{was.get(name, name): rows[name] for name in rows.files})
    return folder / "teacher.onnx", folder / "rows.npz"
