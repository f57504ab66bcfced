"""Whether the tree is slower than a base commit: both are served in turns on one machine. Exits with 1 when it is.

    python benchmarks/gate.py [--base COMMIT] [--rows 'tiny-json-*'] [--repeats 7]

A row fails when the median of the ratios of its turns is more than 10 % worse, in requests/s or in p50, and 3 of 4 turns
or more are worse: more than chance explains. The base is checked out beside the tree (git worktree) and runs in the same
environment. The default base is where the tree left `main`, or the commit before on `main` itself.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from measure import Figure
from run import about, measure_all, select
from servers import Server, foretell

ROOT = Path(__file__).resolve().parent.parent
WORST = 0.10
MOST_TURNS = 0.75
ROWS = ["tiny-json-1c-1w", "tiny-json-32c-1w", "mid-json-32c-1w", "image-binary-8c-1w", "image-json-8c-1w", "tiny-grpc-32c-1w"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="the commit to compare with")
    parser.add_argument("--rows", nargs="+", metavar="PATTERN", default=ROWS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    chosen = parser.parse_args()
    base = git("rev-parse", "--short", chosen.base or default_base())
    print(f"{about()}\nthe tree beside {base}\n", flush=True)
    with checkout(base) as folder, tempfile.TemporaryDirectory() as models:
        servers = [at("tree", ROOT), at("base", folder)]
        found, problems = measure_all(select(chosen.rows), servers, chosen.repeats, chosen.seconds, Path(models))
    slower = [text for row, runs in found.items() for text in compare(row, runs.get("tree", ()), runs.get("base", ()))]
    for problem in problems:
        print(f"not measured: {problem}")
    for text in slower:
        print(f"SLOWER: {text}")
    print("slower than the base" if slower else "not slower than the base" if not problems else "not all was measured")
    return int(bool(slower or problems))


def compare(row: str, tree: Sequence[Figure], base: Sequence[Figure]) -> Iterator[str]:
    """A sentence for each figure of a row that became worse than it may."""
    for figure, better in (("rate", max), ("p50", min)):
        ratios = [getattr(own, figure) / getattr(other, figure) for own, other in zip(tree, base, strict=True)]
        losses = [1 - ratio if better is max else ratio - 1 for ratio in ratios]
        if not losses:
            continue
        print(f"  {row:<22} {figure:<5} {statistics.median(ratios):5.2f} of the base ({min(ratios):.2f}-{max(ratios):.2f})")
        if statistics.median(losses) > WORST and sum(loss > 0 for loss in losses) >= MOST_TURNS * len(losses):
            yield f"{row}: {figure} is {statistics.median(ratios):.2f} of the base"


def at(label: str, folder: Path) -> Server:
    """Foretell as it is in a folder: what stands in PYTHONPATH comes before what is installed."""
    return foretell(label, {"PYTHONPATH": str(folder)})


def default_base() -> str:
    left = git("merge-base", "HEAD", "main")
    return left if left != git("rev-parse", "HEAD") else ("HEAD" if git("status", "--porcelain") else "HEAD~1")


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "base"
        git("worktree", "add", "--detach", str(path), commit)
        try:
            yield path
        finally:
            git("worktree", "remove", "--force", str(path))


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
