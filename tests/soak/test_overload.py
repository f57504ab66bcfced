"""A server under several times the load that its model can take, by clients that ask again at once."""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.serving import Served, serving
from tests.soak import rounds

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


@dataclass(frozen=True)
class Flood:
    """What the clients of one flood were answered. ``good`` is answers a second."""

    seconds: float
    answered: dict[str, int]
    refusal_p99_s: float
    probe_p99_s: float

    @property
    def good(self) -> float:
        return self.answered.get("200", 0) / self.seconds

    @property
    def offered(self) -> float:
        return sum(self.answered.values()) / self.seconds


def flood(served: Served, clients: int, seconds: float) -> Flood:
    """Let so many clients ask for so long, while this process asks whether the server is ready."""
    line = [sys.executable, "-m", "tests.soak.flood", str(served.port), str(clients), str(seconds), str(PATIENCE_MS)]
    probes: list[float] = []
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        with served.wire() as wire:
            while process.poll() is None:
                start = time.perf_counter()
                reply = wire.ask(b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert reply.status == 200, reply
                probes.append(time.perf_counter() - start)
                time.sleep(0.01)  # another process is measured
        assert process.stdout is not None
        said = json.loads(process.stdout.read())
    probes.sort()
    return Flood(said["seconds"], said["answered"], said["refusal_p99_s"], probes[int(len(probes) * 0.99)])


def outcomes(served: Served) -> dict[str, int]:
    """Requests of the model by what became of them, as the server counts them."""
    text = served.get("/metrics").body.decode()
    found = re.findall(r'^foretell_requests_total\{[^}]*outcome="(\w+)"[^}]*\} (\S+)', text, re.M)
    return {outcome: int(float(count)) for outcome, count in found}


def check_overload(served: Served, seconds: float) -> dict[str, float]:
    """Goodput at five times the load, exact accounts, and quick probes at ten times. Gives the figures."""
    before = outcomes(served)
    peak = flood(served, PEAK_CLIENTS, seconds)
    five = flood(served, round(PEAK_CLIENTS + 5 * peak.good * 0.11), seconds)
    ten = flood(served, round(PEAK_CLIENTS + 10 * peak.good * 0.1), seconds)
    figures = {
        "peak_good_per_s": peak.good,
        "five_offered": five.offered / peak.good,
        "five_good": five.good / peak.good,
        "ten_offered": ten.offered / peak.good,
        "ten_good": ten.good / peak.good,
        "ten_probe_p99_ms": ten.probe_p99_s * 1000,
        "ten_refusal_p99_ms": ten.refusal_p99_s * 1000,
    }
    counted = {outcome: count - before.get(outcome, 0) for outcome, count in outcomes(served).items()}
    sent = {status: sum(each.answered.get(status, 0) for each in (peak, five, ten)) for status in ("200", "429", "504")}
    by_status = {
        "200": counted.get("ok", 0),
        "429": counted.get("queue_full", 0) + counted.get("overloaded", 0),
        "504": counted.get("deadline_passed", 0),
    }
    assert by_status == sent, (counted, sent, figures)
    assert sum(counted.values()) == sum(sent.values())
    return figures


def model_at(folder: Path) -> str:
    """The model of known speed, in a folder of its own."""
    folder.mkdir()
    (folder / "paced.py").write_text(PACED)
    return f"{folder / 'paced.py'}:model"


def is_good(figures: dict[str, float]) -> bool:
    """Whether overload has cost little, of what was asked for in full."""
    enough = figures["five_offered"] >= 5 and figures["ten_offered"] >= 8
    return enough and figures["five_good"] >= 0.8 and figures["ten_probe_p99_ms"] < 50


def test_five_times_the_load_leaves_four_fifths_of_the_answers_and_exact_accounts(tmp_path: Path) -> None:
    """The accounts must be exact each time, the times good once: whatever else runs on the machine only lengthens them."""
    with serving(tmp_path, *FLAGS, models={}, paths=[model_at(tmp_path / "models")]) as served:
        tries: list[dict[str, float]] = []
        while len(tries) < 4 and not any(map(is_good, tries)):
            tries.append({name: round(value, 3) for name, value in check_overload(served, rounds(2, 60)).items()})
    print(tries)
    assert is_good(tries[-1]), tries
