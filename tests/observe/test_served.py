"""What real servers tell of what they did: counted exactly, and found again in the log."""

import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.modes.grpc import asking as asking_grpc
from tests.serving import MODELS, Served, Wire, double, eventually, infer, post, serving, sleep

LABELS = 'model="{}",version="1"'
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
MARKS = ("x-request-id: r-%d", f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01")


def scrape(served: Served) -> dict[str, float]:
    """The numbers of a scrape; asked again when the worker that is asked is killed."""
    answers: list[str] = []

    def ask() -> bool:
        with suppress(OSError, EOFError):
            answers.append(served.get("/metrics").body.decode())
        return bool(answers)

    assert eventually(ask)
    [text] = answers
    return {series: float(number) for series, number in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}


def fates(numbers: dict[str, float]) -> Counter[str]:
    """How many requests to any model had each fate."""
    found: Counter[str] = Counter()
    for series, number in numbers.items():
        if series.startswith("foretell_request_fates_total"):
            found[re.findall('fate="(.*?)"', series)[0]] += int(number)
    return found


def whole_and_phases_s(numbers: dict[str, float], model: str) -> tuple[float, float]:
    labels = LABELS.format(model)
    names = ("input_seconds_total", "queue_seconds_sum", "compute_seconds_sum", "output_seconds_total")
    return (
        numbers[f"foretell_request_seconds_sum{{{labels}}}"],
        sum(numbers[f"foretell_{name}{{{labels}}}"] for name in names),
    )


class Client(threading.Thread):
    """Sends requests of all kinds, one after the other, and counts how they were answered."""

    def __init__(self, served: Served, requests: list[bytes]) -> None:
        super().__init__()
        self.served = served
        self.requests = requests
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        with self.served.wire(timeout_s=30.0) as wire:
            for request in self.requests:
                self.statuses[wire.ask(request).status] += 1


def mixed(number: int) -> list[bytes]:
    """Good, broken and failing requests, and some that come too late."""
    wrong = infer("double", "x", [1.0], shape=[1, 1])
    late = sleep(0.05, parameters={"timeout": 1000})
    kinds = [double(), double(), wrong, double(x=-666.0), late, sleep(0.001), post("/v2/models/double/infer", "{")]
    return [kinds[(number + turn) % len(kinds)] for turn in range(60)]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_outcomes_add_up_to_what_was_sent_under_mixed_load(tmp_path: Path, workers: str) -> None:
    with serving(tmp_path, "--workers", workers, "--engine-queue-rows", "3") as served:
        clients = [Client(served, mixed(number)) for number in range(12)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        statuses = sum((client.statuses for client in clients), Counter())
        numbers = scrape(served)
        found = fates(numbers)
        assert sum(found.values()) == sum(statuses.values()) == 12 * 60
        assert found["accepted"] == statuses[200] + statuses[500]
        assert found["rejected"] == statuses[400] + statuses[429]
        assert found["expired"] == statuses[504]
        assert found["cancelled"] == 0
        for model in ("double", "slow"):
            whole_s, phases_s = whole_and_phases_s(numbers, model)
            assert phases_s == pytest.approx(whole_s, rel=0.01)
            [stats] = served.get(f"/v2/models/{model}/stats").json()["model_stats"]
            assert (
                stats["inference_stats"]["success"]["count"]
                == numbers[f"nv_inference_request_success{{{LABELS.format(model)}}}"]
            )


class Stubborn(threading.Thread):
    """Asks until told to stop, and connects again when its worker dies; counts what it sent and what was answered."""

    def __init__(self, served: Served) -> None:
        super().__init__()
        self.served = served
        self.sent = self.answered = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            with suppress(OSError, EOFError), self.served.wire() as wire:
                while not self.stopping.is_set():
                    self.sent += 1
                    self.answered += wire.ask(double()).status == 200


@contextmanager
def asking(served: Served, count: int) -> Iterator[list[Stubborn]]:
    """So many stubborn clients, which have ended afterwards."""
    clients = [Stubborn(served) for _ in range(count)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()


def test_counters_only_grow_and_lose_no_answer_when_a_worker_is_killed_under_load(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", models={"double": MODELS["double"]}) as served:
        before: dict[str, float] = {}
        with asking(served, 4) as clients:
            for turn in range(50):
                if turn == 20:
                    os.kill(served.workers[0], signal.SIGKILL)
                now = {series: number for series, number in scrape(served).items() if GROWS.search(series)}
                assert not [series for series, number in before.items() if now.get(series, 0.0) < number]
                before = now
            assert eventually(lambda: states(served)["ready"] == 2, within_s=20)
        answered, sent = sum(client.answered for client in clients), sum(client.sent for client in clients)
        assert answered <= fates(scrape(served))["accepted"] <= sent
        assert sent - answered <= len(clients), "each client lost at most the request that the killed worker had"


GROWS = re.compile(r'(_total|(seconds|rows|inference|exec)_count|_sum|_bucket|_us|_success)\{.*model="double"')


def states(served: Served) -> dict[str, float]:
    """How many workers are in each state."""
    return {series.split('"')[1]: number for series, number in scrape(served).items() if series.startswith("foretell_workers{")}


def test_who_goes_away_is_counted_as_cancelled(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        wires = [served.wire() for _ in range(3)]
        for wire in wires:
            wire.send(sleep(0.3))
        assert in_flight(served) == 3
        for wire in wires[1:]:
            wire.socket.close()
        wires[0].read()
        wires[0].socket.close()
        assert fates(scrape(served)) == {"accepted": 1, "rejected": 0, "expired": 0, "cancelled": 2}


def in_flight(served: Served) -> float:
    """The requests that are in flight, once there are three."""
    numbers: dict[str, float] = {}
    series = f"foretell_in_flight_requests{{{LABELS.format('slow')}}}"

    def are_three() -> bool:
        numbers.update(scrape(served))
        return numbers[series] == 3

    eventually(are_three)
    return numbers[series]


def test_the_log_names_each_request_by_its_marks(tmp_path: Path) -> None:
    with serving(tmp_path, "--log-requests", "--log-format", "json", "--workers", "1") as served:
        statuses = []
        for number, x in enumerate((1.0, -666.0)):
            marks = [mark % number if "%" in mark else mark for mark in MARKS]
            statuses.append(served.ask(double(*marks, x=x)))
        assert [reply.status for reply in statuses] == [200, 500]
        entries: list[dict[str, Any]] = [json.loads(line) for line in served.log.read_text().splitlines()]
        [good, failed] = [entry for entry in entries if entry["logger"] == "foretell.requests"]
        assert (good["outcome"], good["request_id"], good["trace_id"], good["rows"]) == ("ok", "r-0", TRACE, 1)
        assert (failed["outcome"], failed["request_id"], failed["trace_id"]) == ("model_failed", "r-1", TRACE)
        [told] = [entry for entry in entries if "error_id" in entry]
        assert told["error_id"] == statuses[1].json()["error_id"]
        named = {"model": "double", "code": "model_failed", "request_id": "r-1", "trace_id": TRACE, "worker": 0}
        assert named.items() <= told.items()
        assert any("the secret is in" in line for line in told["traceback"])


def test_the_log_names_calls_of_grpc_by_their_marks(tmp_path: Path) -> None:
    flags = ("--log-requests", "--log-format", "json", "--workers", "0", "--grpc-port", "0")
    with serving(tmp_path, *flags, models={"double": MODELS["double"]}) as served:
        metadata = (("x-request-id", "g-1"), ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"))
        with grpc.insecure_channel(served.grpc) as channel:
            assert isinstance(asking_grpc.ask(channel, asking_grpc.INFER, asking_grpc.double(), metadata=metadata), bytes)
            asking_grpc.refused(channel, asking_grpc.INFER, asking_grpc.double(-666), metadata=metadata)
        entries = [json.loads(line) for line in served.log.read_text().splitlines()]
        named = [entry for entry in entries if entry.get("request_id") == "g-1" and entry.get("trace_id") == TRACE]
        assert [entry.get("outcome", entry.get("code")) for entry in named] == ["ok", "model_failed", "model_failed"]
        assert {entry.get("mode") for entry in named} == {"grpc", None}


def test_a_request_id_cannot_forge_a_line(tmp_path: Path) -> None:
    with serving(tmp_path, "--log-requests", "--workers", "0") as served, Wire(served.port) as wire:
        assert wire.ask(double(id='x\n2026-01-01T00:00:00.000Z info forged\u202e"')).status == 200
        [line] = [line for line in served.log.read_text(encoding="utf-8").splitlines() if "forged" in line]
        assert r"x\n2026" in line
        assert "\u202e" not in line


def test_every_metric_of_a_server_is_in_the_reference(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    with serving(tmp_path, "--jobs-state-folder", str(tmp_path / "state")) as served:
        served.ask(double())
        names = set(re.findall(r"^# HELP (\w+)", served.get("/metrics").body.decode(), re.MULTILINE))
    shown = set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram)", page, re.MULTILINE))
    assert names == {name for name in shown if not name.startswith("foretell_shadow")}
