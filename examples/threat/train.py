"""Trains the demo's threat model: nine features of a web page -> the probability that it is phishing, and a verdict.

Writes the model, its pipeline.toml, the held-out pages and the demo's inputs, and prints the figures of README.md.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.datasets import Phishing
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import confusion_matrix, log_loss, roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "foretell" / "demo"
MODEL = DEMO / "models" / "threat"
SEED = 0

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

PIPELINE = """\
# Nine features of a web page -> the probability that it is phishing, and a verdict. Made by examples/threat/train.py.

[[preprocess]]
step = "table.columns"          # an object of nine named numbers -> one row of nine
names = [
{columns}
]
into = "page"

[[preprocess]]
step = "table.standardise"      # statistics of the training split alone
mean = {mean}
std = {std}

[[postprocess]]
step = "table.keep"             # the converter's second output, a 0 or 1 at an even threshold, is not asked for
names = ["probabilities"]

[[postprocess]]
step = "labels.threshold"       # chosen on pages that the model was not trained on
at = {threshold}
labels = ["legitimate", "phishing"]
probability = "phishing_probability"
"""


def main() -> None:
    names, pages, phishing = read_pages()
    train, choose, test = split(pages, phishing)
    scaler = StandardScaler().fit(pages[train])
    model = GradientBoostingClassifier(random_state=SEED).fit(scaler.transform(pages[train]), phishing[train])

    def score(rows: Rows) -> Floats:
        return np.asarray(model.predict_proba(scaler.transform(pages[rows]))[:, 1])

    threshold = choose_threshold(phishing[choose], score(choose))
    write_model(model, len(names))
    write_pipeline(names, scaler, threshold)
    write_held_out(names, pages[test], phishing[test])
    write_inputs(names, pages[test], phishing[test])
    print(f"pages: {len(train)} to train, {len(choose)} to choose the threshold, {len(test)} held out")
    print(f"threshold: {threshold}")
    for name, figure in figures(phishing[test], score(test), threshold).items():
        print(f"{name}: {figure}")


def read_pages() -> tuple[list[str], Floats, NDArray[np.int64]]:
    """Feature names, features [1250, 9], and 1 for phishing."""
    rows = list(Phishing())
    names = list(rows[0][0])
    pages = np.array([[page[name] for name in names] for page, _ in rows], np.float64)
    return names, pages, np.array([int(label) for _, label in rows])


def split(pages: Floats, phishing: NDArray[np.int64]) -> tuple[Rows, Rows, Rows]:
    """Row numbers to train, to choose the threshold and to test, 3:1:1.

    Half of the pages repeat another page's nine values: equal pages stay in one part, so that no test page was trained on.
    """
    _, same = np.unique(pages, axis=0, return_inverse=True)
    folds = [rows for _, rows in StratifiedGroupKFold(5, shuffle=True, random_state=SEED).split(pages, phishing, same)]
    return np.concatenate(folds[2:]), folds[1], folds[0]


def choose_threshold(phishing: NDArray[np.int64], score: Floats) -> float:
    """Where the share of phishing caught exceeds the share of false alarms most (Youden's J), midway to the next lower score.

    Midway, so that rounding in the last digit cannot move a page across.
    """
    false_alarms, caught, thresholds = roc_curve(phishing, score)
    best = float(thresholds[np.argmax(caught - false_alarms)])
    below = float(score[score < best].max())
    return round((best + below) / 2, 4)


def figures(phishing: NDArray[np.int64], score: Floats, threshold: float) -> dict[str, Any]:
    """What README.md states, on the held-out pages."""
    (right, alarms), (missed, caught) = confusion_matrix(phishing, score >= threshold)
    return {
        "accuracy": round((right + caught) / len(phishing), 4),
        "AUC": round(float(roc_auc_score(phishing, score)), 4),
        "log loss": round(float(log_loss(phishing, score)), 4),
        "phishing caught": f"{caught} of {caught + missed}",
        "false alarms": f"{alarms} of {alarms + right}",
    }


def write_model(model: GradientBoostingClassifier, features: int) -> None:
    """The classifier as ONNX: ``page`` [rows, 9] -> ``label`` [rows] and ``probabilities`` [rows, 2]."""
    takes = [("page", FloatTensorType([None, features]))]
    graph = to_onnx(model, initial_types=takes, options={"zipmap": False}, target_opset=17)
    path = MODEL / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))
    print(f"model: {path.stat().st_size} bytes")


def write_pipeline(names: list[str], scaler: StandardScaler, threshold: float) -> None:
    text = PIPELINE.format(
        columns="\n".join(f'  "{name}",' for name in names),
        mean=[round(float(value), 6) for value in scaler.mean_],
        std=[round(float(value), 6) for value in scaler.scale_],
        threshold=threshold,
    )
    (MODEL / "pipeline.toml").write_text(text)


def write_held_out(names: list[str], pages: Floats, phishing: NDArray[np.int64]) -> None:
    with (HERE / "held_out.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "is_phishing"])
        writer.writerows([*page, label] for page, label in zip(pages.tolist(), phishing.tolist(), strict=True))


def write_inputs(names: list[str], pages: Floats, phishing: NDArray[np.int64]) -> None:
    """The first held-out page of either kind, as the demo sends it."""
    folder = DEMO / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    for label, kind in enumerate(("legitimate", "phishing")):
        page: Mapping[str, float] = dict(zip(names, pages[phishing == label][0].tolist(), strict=True))
        (folder / f"{kind}.json").write_text(json.dumps(page, indent=2) + "\n")


if __name__ == "__main__":
    main()
