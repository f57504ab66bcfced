"""The committed models reach the figures that their READMEs state, through the pipelines that the demo serves."""

import csv
import importlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foretell import Pipeline, open_pipeline

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
MODELS = ROOT / "foretell" / "demo" / "models"


def stated(readme: Path) -> dict[str, str]:
    """The figures of a README: the rows of its tables of two columns."""
    return dict(re.findall(r"^\| ([^|]+?) \| ([^|]*?\d[^|]*?) \|$", readme.read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def threat() -> dict[str, NDArray[Any]]:
    """The served answers for the held-out pages, and under ``phishing`` what is true."""
    with (EXAMPLES / "threat" / "held_out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([row[name] for row in rows], np.float32) for name in rows[0]}
    phishing = columns.pop("is_phishing") == 1
    return {**open_pipeline(MODELS / "threat")(columns), "phishing": phishing}


def test_threat_catches_and_spares_as_many_held_out_pages_as_stated(threat: dict[str, NDArray[Any]]) -> None:
    figures = stated(EXAMPLES / "threat" / "README.md")
    called, phishing = threat["verdict"] == b"phishing", threat["phishing"]
    assert f"{(called & phishing).sum()} of {phishing.sum()}" == figures["phishing caught"]
    assert f"{(called & ~phishing).sum()} of {(~phishing).sum()}" == figures["false alarms"]
    assert f"{(called == phishing).mean():.4f}" == figures["accuracy"]


def test_threat_ranks_the_held_out_pages_as_well_as_stated(threat: dict[str, NDArray[Any]]) -> None:
    figures = stated(EXAMPLES / "threat" / "README.md")
    share, phishing = threat["phishing_probability"].astype(np.float64), threat["phishing"]
    above = share[phishing][:, None] - share[~phishing][None, :]
    assert ((above > 0) + 0.5 * (above == 0)).mean() == pytest.approx(float(figures["AUC"]), abs=1e-4)
    assert -np.log(np.where(phishing, share, 1 - share)).mean() == pytest.approx(float(figures["log loss"]), abs=1e-4)


@pytest.fixture(scope="module")
def digits() -> Pipeline:
    return open_pipeline(MODELS / "digits")


def test_digits_are_read_as_well_as_stated_at_every_size_and_mode(digits: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skl2onnx")
    monkeypatch.syspath_prepend(EXAMPLES / "digits")
    train, draw = importlib.import_module("train"), importlib.import_module("draw")
    pixels, labels = importlib.import_module("sklearn.datasets").load_digits(return_X_y=True)
    _, held_out = train.split(labels)
    truth = [str(label).encode() for label in labels[held_out]]
    figures = stated(EXAMPLES / "digits" / "README.md")
    measured = {}
    for name, look in train.TESTED.items():
        pictures = [draw.draw(pixels[row].reshape(8, 8), look) for row in held_out]
        best = digits({"image": np.array(pictures, dtype=np.object_)})["label"][:, 0]
        measured[name] = (best == truth).mean()
    assert measured == pytest.approx({name: float(figures[name]) for name in train.TESTED}, abs=0.005)


@pytest.mark.parametrize("name", ["threat", "digits"])
def test_a_committed_model_is_small(name: str) -> None:
    assert (MODELS / name / "1" / "model.onnx").stat().st_size <= 300_000


@pytest.mark.parametrize("kind", ["phishing", "legitimate"])
def test_the_demo_asks_about_a_held_out_page(kind: str) -> None:
    page = json.loads((MODELS.parent / "inputs" / f"{kind}.json").read_text())
    with (EXAMPLES / "threat" / "held_out.csv").open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert {**page, "is_phishing": float(kind == "phishing")} in rows


def test_the_docs_show_the_digits_pipeline_as_it_is() -> None:
    shown = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "start.md").read_text(), re.DOTALL)
    assert tomllib.loads((MODELS / "digits" / "pipeline.toml").read_text()) in [tomllib.loads(block) for block in shown]
