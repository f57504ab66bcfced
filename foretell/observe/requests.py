"""The request log: a line for every request, once it has been answered or refused."""

import logging

from foretell.passage import Passage

log = logging.getLogger("foretell.requests")


class RequestLog:
    """An observer that logs each passage at level info, with what it was, how it ended and how long each phase took."""

    def __call__(self, passage: Passage) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        before_s, queue_s, compute_s, after_s = passage.phases()
        numbers = {
            "mode": passage.mode,
            "outcome": passage.outcome,
            "rows": passage.rows,
            "batch_rows": passage.batch_rows,
            "cached": passage.cached,
            "input_ms": _ms(before_s),
            "queue_ms": _ms(queue_s),
            "compute_ms": _ms(compute_s),
            "output_ms": _ms(after_s),
            "total_ms": _ms(passage.total_s),
        }
        log.info("request", extra={**passage.fields(), **numbers})


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
