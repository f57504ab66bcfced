"""foretell quantize on real models: what becomes smaller, what stays as good, and what is refused."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from foretell import load
from foretell.backends import Backend
from foretell.engine.warmup import fit_batches
from foretell.evidence.case import Case, Evidence, loaded, open_case
from foretell.evidence.progress import SILENT
from foretell.evidence.publish import FORCED
from foretell.evidence.verdict import Aim, Budget, Wanted
from foretell.optimize.quantize import METHODS, Name, Quantizing, quantize
from foretell.optimize.quantize.graph import read_graph
from foretell.optimize.quantize.method import Method
from foretell.plugins import load_plugin
from foretell.settings import EngineSettings
from tests.evidence.test_data import refused
from tests.optimize.quantize.conftest import Models
from tests.optimize.quantize.models import MODELS

QUICK = 0.01


def run(models: Models, name: str, target: Path, method: Name, aim: Aim = "size", budget: float = 0.02) -> Evidence:
    """Quantizes with a budget, a share of what the original reaches."""
    model, data = models(name)
    return quantize(model, data, target, Quantizing(method), Wanted(aim, Budget(budget), timing_s=QUICK))


@contextlib.contextmanager
def written(models: Models, name: str, method: Name, target: Path) -> Iterator[tuple[Case, Backend]]:
    """All layers changed, whatever the budget; not timed, and not judged."""
    model, data = models(name)
    case = open_case(model, data, Wanted("size"))
    graph = read_graph(case.source, target.parent)
    made: Method = load_plugin("method", METHODS, method)(graph, case, Quantizing(method), SILENT)
    made.write([layer.name for layer in made.layers], target)
    with loaded(target) as changed:
        yield case, changed


@pytest.mark.parametrize("name", [name for name in MODELS if name != "transformer"])
def test_int8_halves_a_model_within_two_hundredths_of_its_metric(name: str, models: Models, tmp_path: Path) -> None:
    evidence = run(models, name, tmp_path / "small.onnx", "int8")
    assert evidence.gains["size"].ratio > (2.4 if name not in ("diabetes", "breast_cancer") else 1.5)
    assert evidence.scores.agreement > 0.96
    assert evidence.scores.metric == ("rmse" if name == "diabetes" else "accuracy")
    assert (tmp_path / "small.evidence/report.png").exists()


@pytest.mark.parametrize(
    ("method", "ratio"),
    [("int8-weights", 2.9), ("int4-weights", 4.5), ("float16", 1.9), ("float16-weights", 1.9), ("bfloat16-weights", 1.9)],
)
@pytest.mark.parametrize("name", ["digits_cnn", "transformer"])
def test_weights_of_fewer_bits_make_a_smaller_file_that_agrees(
    name: str, method: Name, ratio: float, models: Models, tmp_path: Path
) -> None:
    with written(models, name, method, tmp_path / "small.onnx") as (case, model):
        assert case.score(model).agreement > (0.95 if method == "int4-weights" else 0.99)
    smaller = case.source.stat().st_size / (tmp_path / "small.onnx").stat().st_size
    assert smaller > (ratio if name == "transformer" else min(ratio, 3.0))


def test_every_method_is_offered_by_the_command_line() -> None:
    from foretell.cli.quantize import METHODS as OFFERED

    assert tuple(METHODS) == OFFERED


def test_dynamic_quantization_is_judged_row_by_row_and_says_why(models: Models, tmp_path: Path) -> None:
    evidence = run(models, "digits_mlp", tmp_path / "small.onnx", "int8-dynamic")
    assert any("row by row" in remark for remark in evidence.remarks)
    assert evidence.gains["throughput"].ratio < 0.5
    assert fit_batches(EngineSettings(), (), load(str(tmp_path / "small.onnx"))).max_batch_rows == 1


@pytest.mark.parametrize("method", [name for name in METHODS if name != "int8-dynamic"])
def test_rows_of_a_batch_do_not_change_each_other(method: Name, models: Models, tmp_path: Path) -> None:
    with written(models, "transformer", method, tmp_path / "small.onnx") as (case, model):
        rows = case.test.rows["x"][:16].astype(np.float32) * np.logspace(-2, 1, 16, dtype=np.float32).reshape(-1, 1, 1)
        together = model.forward({"x": rows})["y"]
        alone = np.concatenate([model.forward({"x": rows[i : i + 1]})["y"] for i in range(16)])
    assert np.allclose(together, alone, atol=2e-3)


def test_int8_loses_where_one_scale_must_hold_features_of_many_sizes_and_is_refused(models: Models, tmp_path: Path) -> None:
    told: list[Evidence] = []
    model, data = models("unscaled")
    with refused("not_better", "accuracy goes from", "trouble: linear (Gemm)"):
        quantize(model, data, tmp_path / "small.onnx", Quantizing(), Wanted("size", timing_s=QUICK), tell=told.append)
    assert told[0].scores.loss > 0.1
    assert list(tmp_path.iterdir()) == []


def test_force_writes_it_marked_as_such(models: Models, tmp_path: Path) -> None:
    model, data = models("unscaled")
    evidence = quantize(model, data, tmp_path / "bad.onnx", Quantizing(), Wanted("size", force=True, timing_s=QUICK))
    marks = {each.key: each.value for each in onnx.load(tmp_path / "bad.onnx").metadata_props}
    assert not evidence.verdict.good
    assert "accuracy goes from" in marks[FORCED]
    assert "FORCED" in (tmp_path / "bad.evidence/report.md").read_text()


def test_the_most_sensitive_layers_are_left_out_until_the_budget_holds(models: Models, tmp_path: Path) -> None:
    evidence = run(models, "transformer", tmp_path / "s.onnx", "int8", budget=0.01)
    left = evidence.how["layers left as they were"].split(", ")
    noises = [layer.name for layer in evidence.verdict.trouble]
    assert left == noises[: len(left)]
    assert evidence.verdict.good
    assert evidence.gains["size"].ratio > 2.4
    graph = onnx.load(tmp_path / "s.onnx").graph
    stored = {each.name for each in graph.initializer}
    weights = {node.name: node.input[1] in stored for node in graph.node if node.op_type == "MatMul"}
    assert all(weights[name] for name in left)
    assert not all(weights.values())


def test_a_layer_that_is_to_be_left_out_is(models: Models, tmp_path: Path) -> None:
    model, data = models("digits_cnn")
    options = Quantizing("int8", leave_out=("conv1",))
    evidence = quantize(model, data, tmp_path / "s.onnx", options, Wanted("size", Budget(0.05), timing_s=QUICK))
    assert evidence.how["layers left as they were"] == "conv1"
    conv = next(node for node in onnx.load(tmp_path / "s.onnx").graph.node if node.name == "conv1")
    stored = {each.name for each in onnx.load(tmp_path / "s.onnx").graph.initializer}
    assert conv.input[1] in stored


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
def test_ranges_are_found_in_three_ways(
    calibration: str, models: Models, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, data = models("digits_mlp")
    options = Quantizing("int8", calibration=calibration, rows=64, per_channel=False, seven_bits=True)  # type: ignore[arg-type]
    evidence = quantize(model, data, tmp_path / "s.onnx", options, Wanted("size", Budget(0.05), timing_s=QUICK))
    assert evidence.scores.agreement > 0.95
    assert evidence.how["calibration"] == f"{calibration} on 64 rows"
    assert capfd.readouterr().out == ""


def test_unlabelled_rows_are_enough(models: Models, tmp_path: Path) -> None:
    model, data = models("digits_mlp")
    with np.load(data) as file:
        np.savez(tmp_path / "rows.npz", x=file["x"])
    evidence = quantize(
        model, tmp_path / "rows.npz", tmp_path / "s.onnx", Quantizing("int8-weights"), Wanted("size", timing_s=QUICK)
    )
    assert evidence.scores.metric == "agreement"
    assert evidence.scores.before == 1.0
