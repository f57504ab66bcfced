"""What is told of a run: before it by a dry run, after it by a report."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foretell.cli import cli
from foretell.display import show_amount, show_report
from foretell.errors import Setup
from foretell.modes.files import Options, forecast, predict
from foretell.modes.files.forecast import read_joules
from foretell.modes.files.report import Report
from foretell.settings import PredictSettings
from tests.modes.files.models import Only, Sum, features, pipeline
from tests.modes.files.test_predict import write_rows

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "foretell" / "demo" / "models"
HELD_OUT = ROOT / "examples" / "threat" / "held_out.csv"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_report_reckons_rates_shares_and_cost_from_this_run_alone() -> None:
    report = Report(900, 100, 2.0, 3.0, Path("a.csv"), resumed=200, workers=2, price_per_hour=3.6)
    facts = report.facts()
    assert facts["rows_per_s"] == 400.0
    assert facts["model_share"] == 0.75
    assert facts["cost_per_million_rows"] == pytest.approx(3.6 / 3600 / 400 * 1e6)
    assert Report(0, 0, 0.0, 0.0, Path("a.csv")).facts()["cost_per_million_rows"] is None


def test_a_dry_run_tells_time_cost_and_energy_and_writes_nothing(tmp_path: Path) -> None:
    values = features(2000)
    values[5, 1] = 666
    source = write_rows(tmp_path / "rows.csv", values)
    settings = PredictSettings(price_per_hour=3600.0, watts=10.0)
    told = forecast(pipeline(Sum()), source, tmp_path / "a.csv", settings)
    assert (told.rows, told.sampled, told.bad) == (2000, 2000, 1)
    assert "row 5" in told.why
    assert told.cost == pytest.approx(told.seconds)
    assert told.joules == pytest.approx(told.seconds * 10)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_dry_run_tells_rows_that_are_passed_over_apart(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.csv", features(2000))
    options = Options(sample=0.1)
    told = forecast(pipeline(Sum()), source, tmp_path / "a.csv", None, options)
    done = predict(pipeline(Sum()), source, tmp_path / "a.csv", None, options)
    assert (told.rows, told.sampled, told.passed_over) == (done.rows, done.rows, done.passed_over)
    assert told.rows < 300
    assert told.passed_over == 2000 - told.rows


def test_small_amounts_and_shares_are_shown_as_a_person_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert [show_amount(amount) for amount in (8.761e-05, 0.5, 1250)] == ["0.0001", "0.5000", "1,250.00"]
    show_report(Report(10, 0, 1.0, 0.001, Path("a.csv")))
    show_report(Report(10, 0, 1.0, 0.5, Path("a.csv")))
    first, second = capsys.readouterr().err.splitlines()
    assert "in the model" not in first
    assert "50% of it in the model" in second


def test_a_dry_run_refuses_what_the_run_would(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.csv", features(3))
    with pytest.raises(Setup):
        forecast(pipeline(Only()), source, source)
    with pytest.raises(Setup, match="name a file"):
        forecast(pipeline(Only()), "-", tmp_path / "a.csv")


def test_energy_is_told_only_where_the_machine_counts_it(tmp_path: Path) -> None:
    assert read_joules(tmp_path) is None
    for package, used in enumerate([1_500_000, 500_000]):
        (tmp_path / f"intel-rapl:{package}").mkdir()
        (tmp_path / f"intel-rapl:{package}" / "energy_uj").write_text(f"{used}\n")
    assert read_joules(tmp_path) == 2.0


def test_the_command_line_tells_before_and_after_as_text_and_json(tmp_path: Path) -> None:
    told = tmp_path / "report.json"
    before = run("predict", MODELS / "threat", HELD_OUT, "--dry-run", "--report", told)
    assert before.exit_code == 0, before.output
    assert "energy" in before.output
    assert json.loads(told.read_text())["cost"] is None
    assert not (tmp_path / "a.csv").exists()
    command = ("predict", MODELS / "threat", HELD_OUT, "-o", tmp_path / "a.csv", "--report", told, "--price-per-hour", 1)
    after = run(*command, "--limit", 10)
    assert after.exit_code == 0, after.output
    assert "a million rows" in after.output
    assert json.loads(told.read_text())["rows"] == 10


def test_a_run_wants_a_place_for_its_answers() -> None:
    refused = run("predict", MODELS / "threat", HELD_OUT)
    assert refused.exit_code == 2
    assert "-o answers.csv" in refused.output


def test_what_was_answered_before_is_told_apart_from_the_speed_of_this_run(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(Report(1200, 0, 1.0, 0.001, Path("a.csv"), resumed=200))
    told = capsys.readouterr().err
    assert told == "1,200 rows answered, 200 of them by a run before; the others in 1 s, 1,000 rows/s: a.csv\n"


def test_the_command_line_takes_several_models_columns_and_a_filter(tmp_path: Path) -> None:
    threat = MODELS / "threat"
    flags = ("--model", threat, "--keep", "https, anchor_from_other_domain", "--where", "https > 0", "--format", "ndjson")
    done = run("predict", threat, HELD_OUT, "-o", f"{tmp_path}/out/", *flags)
    assert done.exit_code == 0, done.output
    (part,) = (tmp_path / "out").iterdir()
    row = json.loads(part.read_text().splitlines()[0])
    assert list(row)[:3] == ["row", "https", "anchor_from_other_domain"]
    assert {"threat.verdict", "threat2.verdict"} <= set(row)
    refused = run("predict", threat, HELD_OUT, "-o", f"{tmp_path}/out/", *flags)
    assert refused.exit_code == 1
    assert "--restart" in refused.output


def test_a_line_that_is_no_object_is_a_bad_row_even_under_a_filter(tmp_path: Path) -> None:
    (tmp_path / "rows.ndjson").write_text('{"x": [1, 2, 3], "a": 1}\n{"x": [1, 2, 3], "a": 2}\n{oops\n')
    report = predict(pipeline(Only()), tmp_path / "rows.ndjson", tmp_path / "a.csv", None, Options(where="a > 1"))
    assert (report.rows, report.failed, report.passed_over) == (1, 1, 1)


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "batch.md").read_text(), re.MULTILINE | re.DOTALL)
    for folder in ("foretell", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "batch.md", "exec"), {})
    assert (tmp_path / "answers.parquet").exists()
