"""What the server is meant to reach, as a checklist: the row, the figure, the aim, and whether it is reached.

A ratio is the median of the ratios of each turn, so that a busy spell of the machine meets both sides.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from measure import Figure

Runs = Mapping[str, Sequence[Figure]]
Found = Mapping[str, Runs]
OWN = ("foretell", "limit", "session alone", "bare ASGI echo", "bare grpc.aio", "foretell without the fast lane")
SPARE_MB = 40.0


@dataclass(frozen=True)
class Aim:
    """``against`` is a label, or "best peer"; the ratio of ``figure`` to it is at least (or at most) ``bound``."""

    row: str
    figure: str
    against: str
    bound: float
    at_most: bool = False


@dataclass(frozen=True)
class Reached:
    """``reached`` is None where it was not measured."""

    row: str
    found: str
    aim: str
    reached: bool | None


AIMS = (
    Aim("tiny-json-1c-1w", "p50", "limit", 1.6, at_most=True),
    Aim("tiny-json-1c-1w", "p50", "best peer", 1 / 12, at_most=True),
    Aim("tiny-json-32c-1w", "rate", "limit", 1.0),
    Aim("tiny-json-32c-1w", "rate", "best peer", 1.3),
    Aim("tiny-json-32c-1w", "rate", "Triton (PyTriton)", 8.0),
    Aim("tiny-json-256c-2w", "rate", "best peer", 1.5),
    Aim("mid-json-32c-1w", "rate", "limit", 2.2),
    Aim("mid-json-32c-1w", "rate", "best peer", 1.15),
    Aim("conv-binary-32c-1w", "rate", "session alone", 0.95),
    Aim("image-binary-8c-1w", "rate", "bare ASGI echo", 0.8),
    Aim("image-json-8c-1w", "rate", "MLServer", 3.0),
    Aim("tiny-grpc-32c-1w", "rate", "bare grpc.aio", 0.8),
    Aim("tiny-grpc-32c-1w", "rate", "Triton (PyTriton)", 3.0),
)
WORDS = {"p50": "p50", "rate": "requests/s"}


def check(found: Found, extras: Mapping[str, float]) -> list[Reached]:
    """Every aim, in the order of the list; then tails, memory and start."""
    return [*(_compare(aim, found.get(aim.row, {})) for aim in AIMS), *_tails(found), *_footprint(extras)]


def ratio(ours: Iterable[Figure], theirs: Iterable[Figure], figure: str) -> float:
    """The median of the ratios of each turn."""
    pairs = zip(ours, theirs, strict=False)
    return statistics.median(getattr(own, figure) / getattr(other, figure) for own, other in pairs)


def median(runs: Iterable[Figure], figure: str) -> float:
    return statistics.median(getattr(run, figure) for run in runs)


def _compare(aim: Aim, runs: Runs) -> Reached:
    sign = "at most" if aim.at_most else "at least"
    bound = f"1/{1 / aim.bound:.0f}" if aim.bound < 0.2 else f"{aim.bound:g}"
    text = f"{WORDS[aim.figure]} {sign} {bound} of {aim.against}"
    other = _best_peer(runs, aim) if aim.against == "best peer" else aim.against
    if not runs.get("foretell") or not runs.get(other):
        return Reached(aim.row, "not measured", text, None)
    here = ratio(runs["foretell"], runs[other], aim.figure)
    unit = " µs" if aim.figure == "p50" else "/s"
    own, their = (median(runs[label], aim.figure) for label in ("foretell", other))
    shown = f"{here:.2f} ({own:,.0f}{unit}; {other}: {their:,.0f}{unit})"
    return Reached(aim.row, shown, text, here <= aim.bound if aim.at_most else here >= aim.bound)


def _best_peer(runs: Runs, aim: Aim) -> str:
    peers = [label for label, each in runs.items() if label not in OWN and each]
    best: Callable[..., str] = min if aim.at_most else max
    return best(peers, key=lambda label: median(runs[label], aim.figure), default="")


def _tails(found: Found) -> Iterator[Reached]:
    for row in ("tiny-json-256c-1w", "tiny-json-256c-2w"):
        runs = found.get(row, {}).get("foretell")
        if runs:
            tail = statistics.median(run.p99 / run.p50 for run in runs)
            yield Reached(row, f"{tail:.2f}", "p99 at most 3 times p50", tail <= 3.0)
        else:
            yield Reached(row, "not measured", "p99 at most 3 times p50", None)


def _footprint(extras: Mapping[str, float]) -> Iterator[Reached]:
    if not extras:
        return
    most = 2 * extras["runtime"] + SPARE_MB
    found = f"{extras['memory_2']:.0f} MB of {most:.0f}"
    text = f"resident memory at most 2 x (interpreter + runtime) + {SPARE_MB:g} MB"
    yield Reached("tiny, 2 workers", found, text, extras["memory_2"] <= most)
    yield Reached("tiny, 1 worker", f"{extras['start_s']:.2f} s", "start to ready at most 1.0 s", extras["start_s"] <= 1.0)


def show(reached: Iterable[Reached]) -> None:
    print("\naims")
    for each in reached:
        print(f"  {mark(each):<12} {each.row:<20} {each.found:<62} {each.aim}")


def mark(each: Reached) -> str:
    return {True: "reached", False: "NOT REACHED", None: "-"}[each.reached]
