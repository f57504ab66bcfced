"""Models of PyTorch to ONNX: the conversion answers as the original, and keeps its names."""

from pathlib import Path
from typing import Any

import pytest

from foretell.backends import ModelOptions, load_backend
from foretell.convert import Wanted, convert

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
safetensors = pytest.importorskip("safetensors.torch")

CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(6, 16), torch.nn.Linear(16, 3)

    def forward(self, features):
        hidden = torch.relu(self.first(features))
        return {"mean": hidden.mean(1), "scores": torch.softmax(self.last(hidden), 1)}

class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.LSTM(4, 8, batch_first=True)

    def forward(self, steps):
        return self.inner(steps)[0]
"""


@pytest.fixture
def classes(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "nets.py").write_text(CODE)
    return dict(vars(load_module(tmp_path / "nets.py")))


def load_module(path: Path) -> Any:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("converted_nets", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_program_keeps_its_names_and_answers(classes: dict[str, Any], tmp_path: Path) -> None:
    rows = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(classes["Net"]().eval(), (torch.zeros(2, 6),), dynamic_shapes=rows)
    torch.export.save(program, tmp_path / "net.pt2")
    report = convert(str(tmp_path / "net.pt2"), tmp_path / "net.onnx", Wanted())
    assert max(each.relative for each in report.differences) < 1e-5
    before, after = (load_backend(tmp_path / name).signature for name in ("net.pt2", "net.onnx"))
    assert str(before) == str(after) == "(features FP32 [6]) -> (mean FP32 [], scores FP32 [3])"


def test_torchscript_is_converted_too(classes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.trace(torch.nn.Linear(6, 3), torch.zeros(2, 6)).save(str(tmp_path / "net.pt"))
    options = ModelOptions(trust=True, options={"inputs": {"features": "FP32[6]"}})
    report = convert(str(tmp_path / "net.pt"), tmp_path / "net.onnx", Wanted(options=options))
    assert max(each.relative for each in report.differences) < 1e-5
    assert str(load_backend(report.target).signature) == "(features FP32 [6]) -> (output FP32 [3])"


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [("Net", {"features": "FP32[6]"}, {}), ("Recurrent", {"steps": "FP32[?, 4]"}, {"output": "FP32[?, 8]"})],
)
def test_a_class_is_converted_with_its_weights(
    name: str, inputs: dict[str, str], outputs: dict[str, str], classes: dict[str, Any], tmp_path: Path
) -> None:
    safetensors.save_file(classes[name]().state_dict(), tmp_path / "net.safetensors")
    options = {"class": f"nets.py:{name}", "inputs": inputs, "outputs": outputs}
    report = convert(str(tmp_path / "net.safetensors"), tmp_path / "net.onnx", Wanted(options=ModelOptions(options=options)))
    assert max(each.relative for each in report.differences) < 1e-5
    assert load_backend(report.target).signature.rows
