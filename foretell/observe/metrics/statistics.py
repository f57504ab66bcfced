"""The numbers as the protocol's statistics.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

import time
from typing import Any

from foretell.observe.metrics.counts import PHASES, REQUESTS
from foretell.observe.metrics.totals import Totals


def model_statistics(name: str, version: str, totals: Totals) -> dict[str, Any]:
    """One entry of ``model_stats``, JSON-ready: counts and nanoseconds."""
    before_s, queue_s, infer_s, after_s = totals.computed_phases
    hit_s = sum(totals.hit_phases)
    durations = {
        "success": _duration(totals.ok, before_s + queue_s + infer_s + after_s + hit_s),
        "fail": _duration(totals.failed, sum(totals.failed_phases)),
        "queue": _duration(totals.computed, queue_s),
        "compute_input": _duration(totals.computed, before_s),
        "compute_infer": _duration(totals.computed, infer_s),
        "compute_output": _duration(totals.computed, after_s),
        "cache_hit": _duration(totals.hits, hit_s),
        "cache_miss": _duration(totals.misses, 0.0),
    }
    return {
        "name": name,
        "version": version,
        "last_inference": _epoch_ms(totals.last_started),
        "inference_count": round(totals.rows),
        "execution_count": round(totals.forwards),
        "inference_stats": durations,
        "batch_stats": [_batch(size, totals.batches[size]) for size in sorted(totals.batches) if size],
    }


def _batch(size: int, batch: list[float]) -> dict[str, Any]:
    count, (before_s, _, infer_s, after_s) = batch[REQUESTS], batch[PHASES:]
    return {
        "batch_size": size,
        "compute_input": _duration(count, before_s),
        "compute_infer": _duration(count, infer_s),
        "compute_output": _duration(count, after_s),
    }


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": round(count), "ns": round(seconds * 1e9)}


def _epoch_ms(monotonic_s: float) -> int:
    """A monotonic time as milliseconds since the epoch; 0 for never."""
    return round((time.time() - time.monotonic() + monotonic_s) * 1000) if monotonic_s else 0
