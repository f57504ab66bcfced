"""The verdict, the report, and that either both model and report are written or nothing."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from PIL import Image

from foretell.evidence.blame import Cost
from foretell.evidence.case import Evidence, Made, open_case
from foretell.evidence.measure import Gain
from foretell.evidence.metrics import Scores
from foretell.evidence.publish import FORCED, MADE_BY, check_target, publish, staged
from foretell.evidence.report import as_markdown, table
from foretell.evidence.show import show_evidence
from foretell.evidence.verdict import Budget, Layer, Wanted, judge, parse_budget
from tests.evidence.simple import classifier, npz
from tests.evidence.test_data import refused

FAIR = Scores("accuracy", 100, 0.9, 0.895, 0.005, 0.99, (0.85, 0.95), (0.85, 0.95), (0.0, 0.008))
GAINS = {"latency": Gain(1.5, (1.4, 1.6)), "throughput": Gain(0.8, (0.7, 0.9)), "size": Gain(4.0, (4.0, 4.0))}


def test_a_gain_within_the_budget_is_good() -> None:
    verdict = judge(FAIR, GAINS, Wanted("latency"))
    assert verdict.good
    assert verdict.doubts == ()


def test_no_gain_is_refused_with_where_the_time_goes() -> None:
    verdict = judge(FAIR, GAINS, Wanted("throughput"), costs=[Cost("conv1", "Conv", 0.8)])
    assert not verdict.good
    assert "throughput is 0.80 times" in verdict.sentence()
    assert "80% on conv1 (Conv)" in verdict.sentence()


def test_a_loss_over_the_budget_is_refused_with_the_worst_layers_first() -> None:
    layers = [Layer("mild", "Gemm", 0.1), Layer("wild", "Conv", 0.5)]
    verdict = judge(replace(FAIR, after=0.8, loss=0.1), GAINS, Wanted("size"), layers)
    assert "a loss of 0.1000, where 0.0090 is allowed" in verdict.sentence()
    assert verdict.sentence().index("wild") < verdict.sentence().index("mild")


def test_what_the_rows_cannot_tell_is_a_doubt() -> None:
    verdict = judge(replace(FAIR, loss_interval=(-0.01, 0.03)), GAINS, Wanted("latency"))
    assert verdict.good
    assert "0.0300" in verdict.doubts[0]


@pytest.mark.parametrize(("text", "budget"), [("1%", Budget(0.01)), ("0.5 %", Budget(0.005)), ("0.02", Budget(0.02, False))])
def test_a_budget_is_a_share_of_what_the_original_reaches_or_a_loss(text: str, budget: Budget) -> None:
    assert parse_budget(text).loss == pytest.approx(budget.loss)
    assert parse_budget(text).relative is budget.relative


@pytest.mark.parametrize("text", ["", "much", "-1", "nan", "inf"])
def test_another_budget_is_refused(text: str) -> None:
    with refused("wrong_setting", "--budget"):
        parse_budget(text)


def conclude(folder: Path, wanted: Wanted, scale: float = 1.0) -> tuple[Path, Evidence]:
    """A candidate that is the original but for a scale, with its evidence."""
    case = open_case(classifier(folder), npz(folder), replace(wanted, timing_s=0.01))
    made = classifier(folder, scale, "made.onnx")
    return made, case.conclude(Made(made, "quantize", {"method": "none"}))


def test_a_candidate_that_is_not_good_is_not_written(tmp_path: Path) -> None:
    made, evidence = conclude(tmp_path, Wanted("size"))
    with refused("not_better", "size is 1.00 times"):
        publish(made, tmp_path / "small.onnx", evidence)
    assert not (tmp_path / "small.onnx").exists()
    assert not (tmp_path / "small.evidence").exists()


def test_a_forced_one_is_written_and_marked_in_the_model_and_in_the_report(tmp_path: Path) -> None:
    _, evidence = conclude(tmp_path, Wanted("size", force=True))
    with staged(tmp_path / "small.onnx") as place:
        made = classifier(place, name="small.onnx")
        publish(made, tmp_path / "small.onnx", evidence)
    kept = {each.key: each.value for each in onnx.load(tmp_path / "small.onnx").metadata_props}
    assert "size is 1.00 times" in kept[FORCED]
    assert "quantize of model.onnx" in kept[MADE_BY]
    told = json.loads((tmp_path / "small.evidence/report.json").read_bytes())
    assert (told["good"], told["forced"]) == (False, True)
    assert "FORCED" in (tmp_path / "small.evidence/report.md").read_text()
    with Image.open(tmp_path / "small.evidence/report.png") as picture:
        assert picture.size[0] > 800
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_a_report_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "small.evidence").mkdir()
    (tmp_path / "small.evidence/old.txt").write_text("old")
    _, evidence = conclude(tmp_path, Wanted("size", force=True))
    with staged(tmp_path / "small.onnx") as place:
        publish(classifier(place, name="small.onnx"), tmp_path / "small.onnx", evidence)
    assert sorted(file.name for file in (tmp_path / "small.evidence").iterdir()) == ["report.json", "report.md", "report.png"]


def test_the_report_has_every_figure_of_both(tmp_path: Path) -> None:
    _, evidence = conclude(tmp_path, Wanted("size"))
    told = as_markdown(evidence)
    for name in ("accuracy", "agreement", "size", "parameters", "FLOPs", "p50, 1 row", "p50, 32 rows", "rows/s", "energy"):
        assert f"| {name}" in told
    assert "100 to fit on, 100 others to judge by" in told


def test_a_scale_of_the_scores_changes_no_class(tmp_path: Path) -> None:
    _, evidence = conclude(tmp_path, Wanted("size"), scale=3.0)
    assert (evidence.scores.loss, evidence.scores.agreement) == (0.0, 1.0)
    assert 0.8 < evidence.scores.before < 1.0


@pytest.mark.parametrize("kind", ["folder", "suffix", "original", "nowhere", "report"])
def test_a_target_that_cannot_be_written_is_refused(kind: str, tmp_path: Path) -> None:
    model = classifier(tmp_path)
    (tmp_path / "taken.evidence").write_text("")
    targets = {"folder": tmp_path, "suffix": tmp_path / "m.bin", "original": model, "nowhere": tmp_path / "no/m.onnx"}
    with refused("wrong_target"):
        check_target(model, targets.get(kind, tmp_path / "taken.onnx"))


HEARS_CTRL_C = ("env", "--default-signal=INT")
"""A shell lets its background jobs, and what they start, ignore it."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time\nfrom foretell.evidence.publish import staged\n"
        "with staged(pathlib.Path(sys.argv[1])) as place:\n"
        "    (place / 'half.onnx').write_bytes(b'half')\n    print('at work', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [*HEARS_CTRL_C, sys.executable, "-c", code, str(tmp_path / "small.onnx")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"at work\n"
    assert os.listdir(tmp_path) != []
    child.send_signal(number)
    assert child.wait(timeout=30) != 0
    child.stdout.close()
    assert os.listdir(tmp_path) == []


def test_agreement_stands_once_in_a_report_that_is_about_it(tmp_path: Path) -> None:
    folder = classifier(tmp_path).parent
    with staged(tmp_path / "small.onnx") as place:
        case = open_case(classifier(folder), npz(tmp_path), Wanted("size", metric="agreement", timing_s=0.01))
        found = case.conclude(Made(classifier(place), "test"))
        case.close()
    assert [row[0] for row in table(found)].count("agreement with the original") == 1
    assert "agreement" not in [row[0] for row in table(found)]


def test_a_refusal_is_told_by_the_refusal_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = open_case(classifier(tmp_path), npz(tmp_path), Wanted("size", timing_s=0.01))
    found = case.conclude(Made(classifier(tmp_path, name="same.onnx"), "test"))
    case.close()
    show_evidence(found)
    assert "Not good enough" not in capsys.readouterr().out
    show_evidence(replace(found, wanted=replace(found.wanted, force=True)))
    assert "FORCED" in capsys.readouterr().out
