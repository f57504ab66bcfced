"""``foretell prune`` on real models: smaller within the budget, the same each time, or nothing at all."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from foretell.backends import load_backend
from foretell.cli import cli
from foretell.errors import Setup
from foretell.evidence.case import Evidence, open_case
from foretell.evidence.verdict import Budget, Wanted
from foretell.formats.onnx import describe_onnx
from foretell.optimize.prune import prune
from foretell.optimize.prune.pruning import Pruning
from tests.optimize.quantize.models import diabetes, digits_cnn, digits_mlp

pytest.importorskip("onnx")
WANTED = Wanted(aim="size", budget=Budget(0.02, relative=False), timing_s=0.05)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return digits_mlp(tmp_path_factory.mktemp("mlp"))


@pytest.fixture(scope="module")
def small(mlp: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evidence]:
    target = tmp_path_factory.mktemp("small") / "small.onnx"
    return target, prune(*mlp, target, Pruning(steps=4), WANTED)


def test_a_pruned_model_is_smaller_has_fewer_operations_and_keeps_the_budget(
    small: tuple[Path, Evidence], mlp: tuple[Path, Path]
) -> None:
    target, evidence = small
    assert target.stat().st_size < mlp[0].stat().st_size / 1.5
    assert evidence.before.flops is not None
    assert evidence.after.flops is not None
    assert evidence.after.flops < evidence.before.flops / 1.5
    assert evidence.scores.loss <= 0.02
    assert evidence.verdict.good
    model = load_backend(target)
    assert model.forward({"x": np.zeros((3, 64), np.float32)})["y"].shape == (3, 10)
    model.close()


def test_the_report_tells_how_many_channels_each_layer_kept(small: tuple[Path, Evidence]) -> None:
    report = json.loads((small[0].with_suffix(".evidence") / "report.json").read_text())
    assert "w0 128 ->" in report["how"]["channels"]
    assert "w0 128 ->" in (small[0].with_suffix(".evidence") / "report.md").read_text()


def test_the_same_seed_gives_the_same_model(small: tuple[Path, Evidence], mlp: tuple[Path, Path], tmp_path: Path) -> None:
    again = prune(*mlp, tmp_path / "again.onnx", Pruning(steps=4), WANTED)
    assert again.how == small[1].how
    assert again.scores == small[1].scores


def test_single_weights_at_zero_make_a_file_smaller(mlp: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "sparse.onnx"
    evidence = prune(*mlp, target, Pruning("weights", sparsity=0.9, steps=3), WANTED)
    assert target.stat().st_size < mlp[0].stat().st_size / 1.1
    assert evidence.after.parameters is not None
    assert evidence.before.parameters is not None
    assert evidence.after.parameters < evidence.before.parameters / 2
    assert int(describe_onnx(target)["parameters"].replace(",", "")) > 0


def test_filters_of_a_convolution_net_go_too(tmp_path: Path) -> None:
    model, data = digits_cnn(tmp_path)
    evidence = prune(model, data, tmp_path / "small.onnx", Pruning(steps=3), WANTED)
    assert evidence.gains["size"].ratio > 1.1
    assert "w1 16 ->" in evidence.how["channels"]


def test_a_regression_keeps_its_budget_of_error(tmp_path: Path) -> None:
    model, data = diabetes(tmp_path)
    evidence = prune(model, data, tmp_path / "small.onnx", Pruning(steps=4), replace(WANTED, budget=Budget(0.05)))
    assert evidence.scores.metric == "rmse"
    assert evidence.gains["size"].ratio > 1.1


def test_what_exceeds_the_budget_is_not_written_and_the_layers_at_fault_are_named(
    mlp: tuple[Path, Path], tmp_path: Path
) -> None:
    wanted = replace(WANTED, aim="size", budget=Budget(0.0), metric="tests/optimize/prune/test_prune.py:never")
    with pytest.raises(Setup, match=r"w\d") as refusal:
        prune(*mlp, tmp_path / "small.onnx", Pruning(steps=1), wanted)
    assert refusal.value.code == "not_better"
    assert list(tmp_path.iterdir()) == []


def never(outputs: dict[str, np.ndarray], labels: np.ndarray) -> float:
    """A metric on which any change is a loss: how near the largest probability is to the original's, to the last digit."""
    return float(np.round(outputs["y"].astype(np.float64).max(axis=1).sum(), 12))


def test_an_interrupt_leaves_nothing_behind(mlp: tuple[Path, Path], tmp_path: Path) -> None:
    class Interrupting:
        def say(self, text: str, done: float | None = None) -> None:
            if "keeping" in text:
                raise KeyboardInterrupt

        def __enter__(self) -> "Interrupting":
            return self

        def __exit__(self, *error: object) -> None:
            return None

    with pytest.raises(KeyboardInterrupt):
        prune(*mlp, tmp_path / "small.onnx", Pruning(), WANTED, Interrupting())
    assert list(tmp_path.iterdir()) == []


def test_zeros_are_refused_where_speed_is_wanted(mlp: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(Setup, match="--what channels") as refusal:
        prune(*mlp, tmp_path / "small.onnx", Pruning("weights"), Wanted(aim="latency"))
    assert refusal.value.code == "wrong_setting"


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -1.0, float("nan")])
def test_a_sparsity_that_is_no_share_is_refused(mlp: tuple[Path, Path], tmp_path: Path, sparsity: float) -> None:
    with pytest.raises(Setup, match="above 0 and below 1"):
        prune(*mlp, tmp_path / "small.onnx", Pruning("weights", sparsity), WANTED)


def test_rows_with_nan_are_refused_before_the_work(mlp: tuple[Path, Path], tmp_path: Path) -> None:
    with np.load(mlp[1]) as file:
        rows = file["x"].copy()
    rows[5, 7] = np.nan
    np.savez(tmp_path / "bad.npz", x=rows)
    with pytest.raises(Setup) as refusal:
        prune(mlp[0], tmp_path / "bad.npz", tmp_path / "small.onnx", Pruning(), WANTED)
    assert refusal.value.code == "unusable_rows"


def test_a_search_never_sees_the_rows_that_judge(mlp: tuple[Path, Path]) -> None:
    case = open_case(*mlp, WANTED)
    inner = case.inside()
    judging = {row.tobytes() for row in case.test.rows["x"]}
    seen = [row.tobytes() for part in (inner.fit, inner.test) for row in part.rows["x"]]
    assert len(inner.fit) + len(inner.test) == len(case.fit)
    assert not judging & set(seen)
    case.close()


def test_the_verb_writes_the_model_and_shows_the_figures(mlp: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    words = [
        "prune",
        str(mlp[0]),
        "--data",
        str(mlp[1]),
        "-o",
        str(target),
        "--for",
        "size",
        "--budget",
        "0.03",
        "--steps",
        "2",
    ]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert target.exists()
    assert "accuracy" in result.output


def test_training_after_a_cut_needs_torch_or_does_better(mlp: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training after pruning needs torch")
    evidence = prune(*mlp, tmp_path / "small.onnx", Pruning(steps=2, epochs=2), WANTED)
    assert evidence.how["epochs of training"] == "2"
    assert evidence.scores.loss <= 0.02
