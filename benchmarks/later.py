"""What durable work costs: an asynchronous request beside the same one answered at once, and live callers above a running job.

    python -m benchmarks.later overhead     # one client: from the submission to the result, in milliseconds
    python -m benchmarks.later flow         # many clients: small requests accepted, answered and fetched a second
    python -m benchmarks.later beneath      # the p99 of live requests with and without a job over files that takes all it gets

Both sides of each take turns on one server, so that a busy spell of the machine meets both.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.models import write_model
from tests.serving import Served, Wire, eventually, post, serving

KEY = "k" * 32
BODY = json.dumps({"input": [0.5] * 30})
AT_ONCE = post("/predict/tiny", BODY)
LATER = post("/predict/tiny", BODY, "prefer: respond-async")
ROWS = 3_000_000
PER_SECOND = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "flow", "beneath"))
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        {"overhead": overhead, "flow": flow, "beneath": beneath}[arguments.what](Path(folder), arguments.rounds)


@contextmanager
def server(folder: Path, *flags: str) -> Iterator[Served]:
    (folder / "data").mkdir()
    given = ("--jobs-state-folder", str(folder / "state"), "--jobs-paths", str(folder / "data"), *flags)
    paths = [write_model("tiny", folder)]
    with serving(folder, *given, models={}, paths=paths, environ={"FORETELL_ADMIN_KEY": KEY}) as served:
        yield served


def overhead(folder: Path, rounds: int) -> float:
    """One client, by turns; the milliseconds that it costs to be answered later."""
    with server(folder) as served, served.wire() as wire:
        pairs = [(milliseconds(ask_at_once, wire), milliseconds(ask_later, wire)) for _ in range(50 * rounds)]
    plain, late = (sorted(times) for times in zip(*pairs[20:], strict=True))
    for name, times in (("at once", plain), ("later", late)):
        print(f"{name:>8}: p50 {statistics.median(times):6.2f} ms, p99 {times[int(0.99 * len(times))]:6.2f} ms")
    more = statistics.median(late) - statistics.median(plain)
    print(f"overhead: {more:.2f} ms (wanted: at most 5)")
    return more


def ask_at_once(wire: Wire) -> None:
    assert wire.ask(AT_ONCE).status == 200


def ask_later(wire: Wire) -> None:
    """Submit, and wait for the result."""
    path = wire.ask(LATER).header(b"location") or b""
    result = wire.ask(b"GET %b/result HTTP/1.1\r\nhost: localhost\r\nprefer: wait=10\r\n\r\n" % path)
    assert result.status == 200, result


def milliseconds(ask: Callable[[Wire], None], wire: Wire) -> float:
    start = time.perf_counter()
    ask(wire)
    return 1000 * (time.perf_counter() - start)


def flow(folder: Path, rounds: int) -> None:
    """Many clients, each of which submits and fetches one after the other."""
    each = 50 * rounds
    with server(folder) as served, ThreadPoolExecutor(32) as pool:

        def client(_: int) -> None:
            with served.wire() as wire:
                for _ in range(each):
                    ask_later(wire)

        start = time.perf_counter()
        list(pool.map(client, range(32)))
        seconds = time.perf_counter() - start
    print(f"{32 * each / seconds:,.0f} requests a second accepted, answered and fetched by 32 clients")


def beneath(folder: Path, rounds: int, *, window_s: float = 5.0) -> tuple[float, float]:
    """Live requests at a steady rate, in turns without a job and above one; the p99 of each, in milliseconds."""
    with server(folder) as served:
        source = folder / "data" / "rows.csv"
        line = ",".join(["0.5"] * 30) + "\n"
        with source.open("w") as rows:
            rows.write(",".join(f"input.{number}" for number in range(30)) + "\n")
            rows.writelines(line for _ in range(ROWS))
        live(served, 1.0)
        alone, above = [], []
        for _ in range(rounds):
            alone += live(served, window_s)
            with job(served, folder):
                above += live(served, window_s)
    figures = tuple(sorted(times)[int(0.99 * len(times))] for times in (alone, above))
    for name, times, p99 in zip(("alone", "above a job"), (alone, above), figures, strict=True):
        print(f"{name:>12}: p50 {statistics.median(times):6.2f} ms, p99 {p99:6.2f} ms of {len(times):,} requests")
    print(f"the job raises the p99 by {100 * (figures[1] / figures[0] - 1):.0f} % (wanted: at most 20)")
    return figures[0], figures[1]


def live(served: Served, seconds: float) -> list[float]:
    """Milliseconds from when each request was due to its answer: one that waits for another's answer counts that too.

    How late this process itself wakes up for one is no server's time, and does not count.
    """
    times = []
    with served.wire() as wire:
        start = time.perf_counter()
        for number in range(int(PER_SECOND * seconds)):
            due = start + number / PER_SECOND
            if (early := due - time.perf_counter()) > 0:
                time.sleep(early)
                due = time.perf_counter()
            ask_at_once(wire)
            times.append(1000 * (time.perf_counter() - due))
    return times


@contextmanager
def job(served: Served, folder: Path) -> Iterator[None]:
    """A job over files that runs; it is cancelled, and its process gone, when this is left."""
    data = folder / "data"
    order = {"model": "tiny", "input": str(data / "rows.csv"), "output": str(data / "answers.csv"), "concurrency": 2}
    admin = f"authorization: Bearer {KEY}"
    path = f"/jobs/{served.ask(post('/jobs', json.dumps({**order, 'restart': True}), admin)).json()['id']}"

    def shown(verb: str = "GET") -> dict[str, object]:
        told: dict[str, object] = served.ask(post(path, b"", admin, verb=verb)).json()
        return told

    assert eventually(lambda: "progress" in shown(), 120), shown()
    yield
    assert shown()["state"] == "running", "the job has ended too early: give it more rows"
    shown("DELETE")
    assert eventually(lambda: shown()["state"] == "cancelled", 20)


if __name__ == "__main__":
    main()
