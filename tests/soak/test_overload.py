"""A server under several times the load that its model can take, by clients that ask again at once."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serving import Served, serving
from tests.soak import rounds

pytestmark = pytest.mark.clocked

PACED = """
import time
import foretell

@foretell.model(inputs={"x": "FP32[2]"}, outputs={"y": "FP32[2]"})
def model(arrays):
    time.sleep(0.01)
    return {"y": arrays["x"] * 2}
"""
FLAGS = ("--engine-max-batch-rows", "2")  # so that the model takes some 190 rows a second, far less than the server
PEAK_CLIENTS, PATIENCE_MS = 4, 100
CLIENTS_PER_GOOD = 0.11  # who is refused asks some 9 times a second


@dataclass(frozen=True)
class Flood:
    """What the clients of one flood were answered. ``good`` and ``offered`` count in a second."""

    seconds: float
    answered: dict[str, int]
    refusal_p99_s: float
    probe_p99_s: float
    lag_p99_s: float

    @property
    def good(self) -> float:
        return self.answered.get("200", 0) / self.seconds

    @property
    def offered(self) -> float:
        return sum(self.answered.values()) / self.seconds

    def figures(self, peak: "Flood") -> dict[str, float]:
        """All of it to be shown; rates by those of the peak, times in milliseconds."""
        rates = {"offered": self.offered / peak.good, "good": self.good / peak.good, "per_s": self.offered}
        times = {"probe": self.probe_p99_s, "refusal": self.refusal_p99_s, "clients_own_lag": self.lag_p99_s}
        return {name: round(each, 2) for name, each in (rates | {f"{k}_p99_ms": v * 1e3 for k, v in times.items()}).items()}


def flood(served: Served, clients: int, seconds: float) -> Flood:
    """Let so many clients ask for so long, and one more whether the server is ready."""
    line = [sys.executable, "-m", "tests.soak.flood", str(served.port), str(clients), str(seconds), str(PATIENCE_MS)]
    said = subprocess.run(
        line, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], check=True, timeout=seconds + 60
    )
    return Flood(**json.loads(said.stdout))


def outcomes(served: Served) -> dict[str, int]:
    """Requests of the model by what became of them, as the server counts them."""
    text = served.get("/metrics").body.decode()
    found = re.findall(r'^foretell_requests_total\{[^}]*outcome="(\w+)"[^}]*\} (\S+)', text, re.M)
    return {outcome: int(float(count)) for outcome, count in found}


def check_accounts(counted: dict[str, int], floods: Sequence[Flood]) -> None:
    """That the server has counted exactly what clients were answered."""
    sent = {status: sum(each.answered.get(status, 0) for each in floods) for status in ("200", "429", "504")}
    by_status = {
        "200": counted.get("ok", 0),
        "429": counted.get("queue_full", 0) + counted.get("overloaded", 0),
        "504": counted.get("deadline_passed", 0),
    }
    assert by_status == sent, (counted, sent)
    assert sum(counted.values()) == sum(sent.values())


def model_at(folder: Path) -> str:
    """The model of known speed, in a folder of its own."""
    folder.mkdir()
    (folder / "paced.py").write_text(PACED)
    return f"{folder / 'paced.py'}:model"


@pytest.mark.parametrize("workers", [0, 1])
def test_ten_times_the_load_leaves_quick_refusals_quick_probes_most_answers_and_exact_accounts(
    workers: int, tmp_path: Path
) -> None:
    """The clients' own lag is what any process here waits for a processor: a server on a busy machine can do no better."""
    seconds = rounds(2, 30)
    flags = (*FLAGS, "--workers", str(workers))
    with serving(tmp_path, *flags, models={}, paths=[model_at(tmp_path / "models")]) as served:
        peak = flood(served, PEAK_CLIENTS, seconds)
        five, ten = (flood(served, round(PEAK_CLIENTS + load * peak.good * CLIENTS_PER_GOOD), seconds) for load in (5, 10))
        check_accounts(outcomes(served), (peak, five, ten))
    figures = {"peak": round(peak.good), "five": five.figures(peak), "ten": ten.figures(peak)}
    print(json.dumps(figures))
    assert five.offered >= 5 * peak.good, figures
    assert ten.offered >= 10 * peak.good, figures
    assert five.good >= 0.8 * peak.good, figures
    assert ten.probe_p99_s < 0.05 + 2 * ten.lag_p99_s, figures
    assert ten.refusal_p99_s < 0.02 + 2 * ten.lag_p99_s, figures
