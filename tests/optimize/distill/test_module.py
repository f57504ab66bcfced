"""Students of torch: a module of the user's own, and the default of convolutions."""

from dataclasses import replace
from pathlib import Path

import pytest

from foretell.backends import load_backend
from foretell.errors import Setup
from foretell.evidence.verdict import Wanted
from foretell.optimize.distill import distill
from foretell.optimize.distill.teaching import Distilling
from tests.optimize.distill.test_distill import renamed
from tests.optimize.quantize.models import digits_cnn

pytest.importorskip("torch", reason="students of torch need torch")
pytest.importorskip("onnxscript")
WANTED = Wanted(aim="size", timing_s=0.05, force=True)
CODE = """
from torch import nn

class Student(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.first, self.last = nn.Linear(64, width), nn.Linear(width, 10)

    def forward(self, images):
        features = self.first(images.flatten(1)).relu()
        return self.last(features), features

class Wrong(Student):
    def forward(self, images):
        return self.first(images.flatten(1))

class Large(Student):
    def __init__(self):
        super().__init__(20_000)

number = 3
"""


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("cnn")
    (folder / "app.py").write_text(CODE)
    return digits_cnn(folder)


@pytest.mark.filterwarnings("ignore")
def test_a_module_of_the_users_own_learns_and_stands_in_for_the_teacher(cnn: tuple[Path, Path], tmp_path: Path) -> None:
    student = f"{cnn[0].parent / 'app.py'}:Student"
    evidence = distill(*cnn, tmp_path / "small.onnx", Distilling(student, epochs=40, between=1, hint="relu2"), WANTED)
    assert evidence.scores.after > 0.8
    model = load_backend(tmp_path / "small.onnx")
    assert [spec.name for spec in model.signature.outputs] == ["y"]
    model.close()


@pytest.mark.filterwarnings("ignore")
def test_a_default_of_convolutions_fits_its_size(cnn: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    evidence = distill(*cnn, target, Distilling("cnn", size="60%", epochs=3, between=0), WANTED)
    assert target.stat().st_size <= 0.6 * cnn[0].stat().st_size
    assert "filters" in evidence.how["student"]


@pytest.mark.parametrize(
    ("name", "code", "match"),
    [
        ("Large", "larger_student", "no smaller than its teacher"),
        ("Wrong", "unsupported_graph", r"is to give \[2, 10\]"),
        ("number", "broken_code", "no torch module"),
        ("Missing", "broken_code", "no attribute"),
    ],
)
def test_a_module_that_cannot_be_a_student_is_refused_before_the_work(
    cnn: tuple[Path, Path], tmp_path: Path, name: str, code: str, match: str
) -> None:
    options = replace(Distilling(f"{cnn[0].parent / 'app.py'}:{name}"), epochs=1)
    with pytest.raises(Setup, match=match) as refusal:
        distill(*cnn, tmp_path / "small.onnx", options, WANTED)
    assert refusal.value.code == code


@pytest.mark.filterwarnings("ignore")
def test_names_that_torch_gives_are_not_those_of_the_teacher(cnn: tuple[Path, Path], tmp_path: Path) -> None:
    distill(*renamed(*cnn, "linear", "relu", tmp_path), tmp_path / "small.onnx", Distilling("cnn", epochs=1, between=0), WANTED)
    model = load_backend(tmp_path / "small.onnx")
    assert [spec.name for spec in (*model.signature.inputs, *model.signature.outputs)] == ["linear", "relu"]
    model.close()
