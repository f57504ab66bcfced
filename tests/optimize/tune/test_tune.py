"""``foretell tune`` as it is typed: real servers, real loads, short looks."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from foretell.cli import cli
from tests.backends.graphs import linear, save
from tests.serving import eventually, serving

KNOWN = """
import time
import foretell

@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32"})
def model(arrays):
    time.sleep(0.005 + 0.0001 * len(arrays["x"]))
    return {"y": arrays["x"].sum(axis=1)}
"""
"""5.1 ms for one row, 8.2 ms for 32."""


def rows(path: Path, shape: tuple[int, ...]) -> Path:
    np.savez(path, x=np.random.default_rng(0).random(shape, dtype=np.float32))
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["tune", *map(str, words)])


needs_time = pytest.mark.skipif(
    "SOAK" not in os.environ, reason="what is found depends on what else the machine does: SOAK=1, on a quiet one"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(save(linear(), tmp_path / "small.onnx"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose defaults are bad for it, tuned."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "known").mkdir()
    (folder / "known" / "known.py").write_text(KNOWN)
    (folder / "known" / "pipeline.toml").write_text('[model]\nfile = "known.py:model"\n[engine]\nmax_batch_rows = 1\n')
    data = rows(folder / "rows.npz", (80, 2))
    words = ("--workers", "1", "--batch-rows", "32", "--seconds", "20", "-o", folder / "out")
    done = run(folder / "known", "--data", data, "--slo", "p50=200ms", *words)
    assert done.exit_code == 0, done.output
    assert f"foretell serve {folder / 'out'} --name known --config" in done.output
    return folder / "out"


@needs_time
def test_the_batches_that_are_cheap_are_found_on_a_real_server(tuned: Path) -> None:
    report = json.loads((tuned / "tune.json").read_text())
    assert report["default"]["batch_rows"] == 1
    assert report["chosen"]["batch_rows"] == 32
    assert report["final"]["ratio"] > 2


@needs_time
def test_what_was_written_is_served(tuned: Path, tmp_path: Path) -> None:
    table = tomllib.loads((tuned / "pipeline.toml").read_text())
    assert table["engine"]["max_batch_rows"] == 32
    with serving(tmp_path, "--name", "known", "--config", str(tuned / "settings.toml"), models={}, paths=[tuned]) as server:
        reply = server.ask(b"GET /v2/models/known HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert reply.status == 200


@needs_time
def test_the_table_and_the_plot_tell_what_was_tried(tuned: Path) -> None:
    text = (tuned / "tune.md").read_text()
    assert "| chosen |" in text
    assert "| default |" in text
    assert (tuned / "tune.png").read_bytes().startswith(b"\x89PNG")
    assert [each.name for each in tuned.parent.iterdir() if each.name.startswith(".")] == []


def test_an_objective_that_cannot_be_met_tells_what_came_nearest(model: Path, tmp_path: Path) -> None:
    words = ("--workers", 1, "--threads", 1, "--batch-rows", 1, "--only", "onnxruntime", "--seconds", 12)
    done = run(model, "--data", rows(tmp_path / "rows.npz", (80, 4)), "--slo", "p99=2us", *words, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "[unmet_objective]" in done.output
    assert "the nearest was onnxruntime, 1 x 1" in done.output
    assert {each.name for each in (tmp_path / "out").iterdir()} == {"tune.json", "tune.md", "tune.png"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--slo", "p99"), "wrong_objective"),
        (("--slo", "p99=20ms", "--seconds", "2"), "short_budget"),
        (("--slo", "p99=20ms", "--only", "tensorrt"), "cannot_tune"),
        (("--slo", "p99=20ms", "--metric", "rmse"), "wrong_metric"),
        (("--slo", "p99=20ms", "--budget", "much"), "wrong_setting"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_long_work(
    words: tuple[str, ...], code: str, model: Path, tmp_path: Path
) -> None:
    done = run(model, "--data", rows(tmp_path / "rows.npz", (80, 4)), *words, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert f"[{code}]" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("shape", "code"), [((80, 5), "wrong_shape"), ((8, 4), "too_few_rows")])
def test_rows_that_do_not_fit_are_refused(shape: tuple[int, ...], code: str, model: Path, tmp_path: Path) -> None:
    done = run(model, "--data", rows(tmp_path / "rows.npz", shape), "--slo", "p99=20ms", "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert f"[{code}]" in done.output


def test_a_model_that_cannot_be_served_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x09 no model")
    done = run(
        tmp_path / "broken.onnx", "--data", rows(tmp_path / "rows.npz", (80, 4)), "--slo", "p99=20ms", "-o", tmp_path / "out"
    )
    assert done.exit_code == 1
    assert "[broken_model]" in done.output


def test_a_folder_of_somebody_elses_is_not_overwritten(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    done = run(model, "--data", rows(tmp_path / "rows.npz", (80, 4)), "--slo", "p99=20ms", "-o", tmp_path / "out")
    assert "[wrong_target]" in done.output
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_numbers_that_are_none_are_a_wrong_use(model: Path, tmp_path: Path) -> None:
    done = run(model, "--data", tmp_path / "rows.npz", "--slo", "p99=20ms", "--workers", "two")
    assert done.exit_code == 2
    assert "'two' is no list of numbers" in done.output


def test_an_interrupt_keeps_what_was_measured_and_leaves_no_half(model: Path, tmp_path: Path) -> None:
    data = rows(tmp_path / "rows.npz", (80, 4))
    line = [sys.executable, "-m", "foretell", "tune", str(model), "--data", str(data), "--slo", "p99=50ms", "--workers", "1"]
    log = tmp_path / "log.txt"
    with log.open("w") as errors:
        process = subprocess.Popen([*line, "-o", str(tmp_path / "out")], stderr=errors, stdout=errors, start_new_session=True)
        assert eventually(lambda: log.read_text().count("/s  p99") >= 2 or process.poll() is not None, within_s=60.0)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60.0) == 130, log.read_text()
    report = json.loads((tmp_path / "out" / "tune.json").read_text())
    assert report["interrupted"]
    assert len(report["tried"]) >= 2
    assert not (tmp_path / "out" / "pipeline.toml").exists()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
