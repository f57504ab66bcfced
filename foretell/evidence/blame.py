"""Where a candidate's time or bytes go: what a refusal names when it is not better than its original."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import orjson

from foretell.evidence.measure import BATCH_ROWS, Served
from foretell.plugins import needs_extra
from foretell.tensors import Arrays

RUNS = 20
MOST_COSTS = 5


@dataclass(frozen=True)
class Cost:
    """The share of the whole, 0 to 1, that a node has: of the time, or of the bytes."""

    name: str
    kind: str
    share: float


def blame(path: Path, rows: Arrays, aim: str, served: Served) -> tuple[Cost, ...]:
    """The nodes of an ONNX model that cost most of what was to become less: the largest first."""
    if path.suffix != ".onnx":
        return ()
    if aim == "size":
        return _ordered(_bytes(path))
    count = 1 if aim == "latency" else min(BATCH_ROWS, served.most_rows)
    return _ordered(_seconds(path, {name: array[:count] for name, array in rows.items()}))


def _ordered(costs: Counter[tuple[str, str]]) -> tuple[Cost, ...]:
    whole = sum(costs.values()) or 1
    return tuple(Cost(name, kind, count / whole) for (name, kind), count in costs.most_common(MOST_COSTS))


def _seconds(path: Path, rows: Arrays) -> Counter[tuple[str, str]]:
    """By the runtime's own profile: https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feeds = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in rows.items()}
        names = [each.name for each in session.get_outputs()]
        for _ in range(RUNS):
            session.run_with_ort_values(names, feeds)
        events = orjson.loads(Path(session.end_profiling()).read_bytes())
    found: Counter[tuple[str, str]] = Counter()
    for event in events:
        kind = (event.get("args") or {}).get("op_name")
        if event.get("cat") == "Node" and kind and event["name"].endswith("_kernel_time"):
            found[event["name"].removesuffix("_kernel_time"), kind] += event["dur"]
    return found


def _bytes(path: Path) -> Counter[tuple[str, str]]:
    with needs_extra("looking into ONNX graphs", "optimize"):
        import onnx
    model = onnx.load(str(path), load_external_data=False)
    sizes = {each.name: each.ByteSize() for each in model.graph.initializer}
    found: Counter[tuple[str, str]] = Counter()
    for node, name in _uses(model):
        found[node.name, node.op_type] += sizes.pop(name, 0)
    return +found


def _uses(model: Any) -> Iterator[tuple[Any, str]]:
    return ((node, name) for node in model.graph.node for name in node.input)
