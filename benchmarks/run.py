"""Foretell beside its limit, and beside its peers: interleaved in one run on one machine, so that ratios count.

    python benchmarks/run.py                                  # foretell and the limit, the rows of the aims
    python benchmarks/run.py --peers --rows '*'               # everything; two hours
    python benchmarks/run.py --rows 'tiny-json-*' --seconds 3

A row is MODEL-PROTOCOL-CLIENTSc-WORKERSw. All servers of a row are up at once and take turns, `--repeats` times; peers are
stopped (SIGSTOP) while another is measured. Medians are told, with the smallest and the largest. The load is the closed loop of
`foretell bench`, on the same machine.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from extras import measure_extras
from measure import Asker, Figure, Row
from models import write_model
from reach import Reached, check, show
from servers import BESIDE, OURS, PEER_SERVERS, Running, Server, running, venv_of
from tables import draw, line, write_markdown

HERE = Path(__file__).resolve().parent
AIMED = [
    Row("tiny", "json", 1),
    Row("tiny", "json", 32),
    Row("tiny", "json", 256),
    Row("tiny", "json", 256, 2),
    Row("mid", "json", 32),
    Row("conv", "binary", 32),
    Row("image", "binary", 8),
    Row("image", "json", 8),
    Row("tiny", "grpc", 32),
]
MORE = [
    *(Row("tiny", "json", clients, workers) for clients in (1, 8, 32, 256) for workers in (1, 2)),
    *(Row("tiny", door, clients) for door in ("binary", "grpc") for clients in (1, 8, 32, 256)),
    *(Row("tiny", "grpc", clients, 2) for clients in (32, 256)),
    *(Row("mid", door, clients) for door in ("json", "binary", "grpc") for clients in (1, 8, 32, 256)),
    *(Row("mid", "json", clients, 2) for clients in (32, 256)),
    *(Row("conv", door, clients) for door in ("json", "binary", "grpc") for clients in (1, 8, 32)),
    Row("conv", "binary", 32, 2),
    *(Row("image", door, clients) for door in ("json", "binary", "grpc") for clients in (1, 8, 32)),
    Row("image", "binary", 8, 2),
]
Found = dict[str, dict[str, list[Figure]]]


def main() -> None:
    chosen = options()
    rows = select(chosen.rows or ["AIMED"])
    servers = [*OURS, *(PEER_SERVERS if chosen.peers else ())]
    if chosen.servers:
        servers = [each for each in (*OURS, *BESIDE, *PEER_SERVERS) if any(fnmatch(each.label, p) for p in chosen.servers)]
    print(f"{about()}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found, problems = measure_all(rows, servers, chosen.repeats, chosen.seconds, Path(folder))
        extras = measure_extras(Path(folder), chosen.repeats) if chosen.extras else {}
    reached = check(found, extras)
    show(reached)
    for problem in problems:
        print(f"not measured: {problem}")
    if chosen.out:
        write(Path(chosen.out), found, extras, reached, problems)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="PATTERN", help="rows to measure; default: those with an aim")
    parser.add_argument("--servers", nargs="+", metavar="PATTERN", help="servers to measure, by label")
    parser.add_argument("--peers", action="store_true", help="with all peers whose environment was made")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run, after a warm-up of a quarter of it")
    parser.add_argument("--out", metavar="FOLDER", help="write results.md, results.json and plots there")
    parser.add_argument(
        "--extras", action=argparse.BooleanOptionalAction, default=True, help="also start, memory, session alone"
    )
    return parser.parse_args()


def select(patterns: Iterable[str]) -> list[Row]:
    rows = list(dict.fromkeys([*AIMED, *MORE]))
    picked = [row for row in rows if any(row in AIMED if p == "AIMED" else fnmatch(row.name, p) for p in patterns)]
    return picked or sys.exit(f"no row has such a name; there are: {', '.join(row.name for row in rows)}")


def measure_all(
    rows: Sequence[Row], servers: Sequence[Server], repeats: int, seconds: float, folder: Path
) -> tuple[Found, list[str]]:
    """All rows, those of one model and number of workers with the same servers."""
    groups: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.model, row.workers].append(row)
    found: Found = {}
    problems: list[str] = []
    for (model, workers), group in groups.items():
        path = write_model(model, folder)
        with ExitStack() as stack:
            up = start(stack, group, servers, path, workers, problems)
            for row in group:
                found[row.name] = measure_row(row, up, repeats, seconds, problems)
                print_row(row, found[row.name])
    return found, problems


def start(
    stack: ExitStack, group: list[Row], servers: Sequence[Server], model: Path, workers: int, problems: list[str]
) -> list[Running]:
    up = []
    for server in servers:
        doors = [row.door for row in group if server.fits(row.model, row.door, workers)]
        if not doors:
            continue
        asker = Asker(group[0].model, doors[0])
        log = Path(tempfile.gettempdir()) / f"bench-{re.sub(r'[^a-z]+', '-', server.label.lower())}.log"
        one = stack.enter_context(running(server, model, workers, log, asker.answers, grpc="grpc" in doors))
        if one.problem:
            problems.append(f"{server.label} with {model.stem}, {workers} workers: {one.problem} (see {log})")
            continue
        stack.enter_context(one.asleep())
        up.append(one)
    return up


def measure_row(row: Row, up: list[Running], repeats: int, seconds: float, problems: list[str]) -> dict[str, list[Figure]]:
    figures: dict[str, list[Figure]] = defaultdict(list)
    asker = Asker(row.model, row.door)
    model = up[0].model if up else None
    speaking = [one for one in up if one.server.fits(row.model, row.door, row.workers) and speaks(one, asker)]
    deaf = [one.server.label for one in up if one.server.fits(row.model, row.door, row.workers) and one not in speaking]
    problems.extend(f"{label}: no good answer to the request of {row.name}" for label in deaf)
    for _ in range(repeats):
        for one in speaking:
            with one.awake():
                figures[one.server.label].append(asker.measure(one, row.clients, seconds))
        if row.model == "conv" and row.workers == 1 and model is not None:
            figures["session alone"].append(alone(model, seconds))
    return dict(figures)


def speaks(one: Running, asker: Asker) -> bool:
    with one.awake():
        return asker.answers(one)


def alone(model: Path, seconds: float) -> Figure:
    """The session in a loop of its own, by one row or by 32 at a call, whichever is quicker."""
    line = [sys.executable, str(HERE / "alone.py"), str(model), str(seconds)]
    rates = [float(subprocess.run([*line, rows], capture_output=True, check=True).stdout) for rows in ("1", "32")]
    return Figure(max(rates), *[float("nan")] * 6, failed=0)


def print_row(row: Row, figures: dict[str, list[Figure]]) -> None:
    print(row.name)
    for label, runs in figures.items():
        print(f"  {line(label, runs)}", flush=True)


def about() -> str:
    """The machine, the versions and the command: what a figure means nothing without."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cores = len(os.sched_getaffinity(0))
    names = ("foretell", "onnxruntime", "uvicorn", "uvloop", "grpcio", "numpy", "pysimdjson")
    packages = ", ".join(f"{name} {version(name)}" for name in names if _installed(name))
    for server in PEER_SERVERS:
        sites = sorted(venv_of(server).glob("lib/python*/site-packages"))
        wanted = server.needs[0].split("[")[0]
        here = [
            found.version for found in distributions(path=[str(site) for site in sites]) if found.metadata["Name"] == wanted
        ]
        packages += f", {wanted} {here[0]}" if here else ""
    machine = f"{cores} cores of {cpu[1] if cpu else platform.machine()}; Python {platform.python_version()}; {packages}"
    return f"{machine}; {time.strftime('%Y-%m-%d')}\n$ python {' '.join(sys.argv)}"


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def write(folder: Path, found: Found, extras: dict[str, float], reached: list[Reached], problems: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain = {row: {label: [asdict(run) for run in runs] for label, runs in figures.items()} for row, figures in found.items()}
    document = {"about": about(), "rows": plain, "extras": extras, "problems": problems}
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    plots = draw(folder, found)
    write_markdown(folder / "results.md", about(), found, extras, reached, problems, plots)
    print(f"\nwritten: {folder}/results.md, results.json{''.join(f', {plot.name}' for plot in plots)}")


if __name__ == "__main__":
    main()
