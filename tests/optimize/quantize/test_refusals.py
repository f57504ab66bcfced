"""What is refused before the long work, by name."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from onnx import helper
from PIL import Image

from foretell.cli import cli
from foretell.evidence.verdict import Wanted
from foretell.optimize.quantize import Quantizing, quantize
from tests.backends.graphs import build, dynamically_quantized, save, tensor
from tests.evidence.simple import classifier, npz
from tests.evidence.test_data import refused
from tests.evidence.test_verdict import HEARS_CTRL_C
from tests.optimize.quantize.conftest import Models
from tests.serving import eventually


def command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["quantize", *map(str, arguments)], prog_name="foretell")


def test_a_graph_that_is_quantized_already_is_refused(tmp_path: Path) -> None:
    save(dynamically_quantized(features=4), tmp_path / "model.onnx")
    with refused("unsupported_graph", "quantized already"):
        quantize(tmp_path / "model.onnx", npz(tmp_path), tmp_path / "s.onnx")


def test_a_graph_without_layers_is_refused_with_what_it_has(tmp_path: Path) -> None:
    save(
        build([helper.make_node("Softmax", ["x"], ["y"])], [tensor("x", ["n", 4])], [tensor("y", ["n", 4])]),
        tmp_path / "m.onnx",
    )
    with refused("unsupported_graph", "it has Softmax", "foretell distill"):
        quantize(tmp_path / "m.onnx", npz(tmp_path), tmp_path / "s.onnx")


def test_another_format_than_onnx_is_refused_with_how_to_convert(tmp_path: Path) -> None:
    code = (
        "import numpy as np\nfrom foretell.tensors import *\n"
        "class Model:\n"
        "    signature = Signature((TensorSpec('x', Datatype.FP32, (4,)),), (TensorSpec('y', Datatype.FP32, (3,)),))\n"
        "    def forward(self, inputs):\n        return {'y': np.eye(3, dtype=np.float32)[[0] * len(inputs['x'])]}\n"
        "model = Model()\n"
    )
    (tmp_path / "app.py").write_text(code)
    with refused("unsupported_graph", "foretell convert"):
        quantize(f"{tmp_path}/app.py:model", npz(tmp_path), tmp_path / "s.onnx")


def test_too_few_rows_to_calibrate_on_are_refused(tmp_path: Path) -> None:
    with refused("too_few_rows", "32 rows"):
        quantize(classifier(tmp_path), npz(tmp_path), tmp_path / "s.onnx", Quantizing(rows=8))


def test_a_layer_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with refused("wrong_setting", "product"):
        quantize(classifier(tmp_path), npz(tmp_path), tmp_path / "s.onnx", Quantizing(leave_out=("other",)))


def test_a_metric_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with refused("wrong_metric", "rmse"):
        quantize(classifier(tmp_path), npz(tmp_path), tmp_path / "s.onnx", wanted=Wanted(metric="rmse"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-o", "{folder}"], "wrong_target"),
        (["-o", "s.onnx", "--metric", "rmse"], "wrong_metric"),
        (["-o", "s.onnx", "--budget", "much"], "wrong_setting"),
        (["-o", "s.onnx", "--label", "kind"], "unlabelled"),
        (["-o", "s.onnx", "--data", "nowhere.csv"], "missing_file"),
    ],
)
def test_the_command_line_ends_with_1_and_the_code(arguments: list[str], code: str, tmp_path: Path) -> None:
    placed = [str(tmp_path / text) if text in ("s.onnx", "nowhere.csv") else text.format(folder=tmp_path) for text in arguments]
    data = [] if "--data" in placed else ["--data", npz(tmp_path)]
    result = command(classifier(tmp_path), *data, *placed)
    assert result.exit_code == 1
    assert f"[{code}]" in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(("s.", "."))) == []


def test_the_command_line_writes_a_model_and_its_report_from_a_folder_of_images(models: Models, tmp_path: Path) -> None:
    """A pipeline of image steps: rows, labels and calibration come from pictures, one subfolder a class."""
    model, data = models("digits_cnn")
    _folder_of_images(tmp_path / "scans", data)
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.read_bytes())
    steps: list[dict[str, object]] = [
        {"step": "image.decode", "mode": "L", "height": 8, "width": 8},
        {"step": "image.layout"},
        {"step": "image.normalise", "order": "CHW"},
    ]
    (folder / "pipeline.toml").write_text(_toml(steps))
    result = command(folder, "-o", tmp_path / "small.onnx", "--data", tmp_path / "scans", "--for", "size", "--budget", "5%")
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "small.evidence/report.json").read_bytes())
    assert told["scores"]["metric"] == "accuracy"
    assert told["scores"]["before"] > 0.8
    assert "Good" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_leaves_nothing(number: signal.Signals, models: Models, tmp_path: Path) -> None:
    model, data = models("digits_mlp")
    arguments = ["quantize", str(model), "-o", str(tmp_path / "small.onnx"), "--data", str(data), "--for", "size"]
    child = subprocess.Popen(
        [*HEARS_CTRL_C, sys.executable, "-m", "foretell", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert eventually(lambda: any(tmp_path.glob(".small.*/*.onnx")), 60)
    child.send_signal(number)
    assert child.wait(timeout=60) != 0
    assert list(tmp_path.iterdir()) == []


def _toml(steps: list[dict[str, object]]) -> str:
    return "".join(
        "[[preprocess]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in step.items()) for step in steps
    )


def _folder_of_images(folder: Path, data: Path) -> None:
    with np.load(data) as file:
        images, labels = file["x"], file["label"]
    for number, (image, label) in enumerate(zip(images[:400], labels[:400], strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).astype(np.uint8)).save(folder / str(label) / f"{number:03}.png")
