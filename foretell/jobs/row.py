"""A job as one flat row of plain values, as tables and hashes keep it."""

from typing import Any, Protocol

from foretell.jobs.job import Failure, Job, State

PLAIN = (
    "id",
    "kind",
    "created_at",
    "due_at",
    "priority",
    "owner",
    "key",
    "fingerprint",
    "key_until",
    "ttl_s",
    "most_attempts",
    "attempts",
    "worker",
    "lease_until",
    "started_at",
    "finished_at",
    "expires_at",
    "progress",
)
"""The fields of ``Job`` that are kept as they are."""

COLUMNS = (*PLAIN, "state", "error_code", "error_message", "cancel_wanted")
"""All columns but ``spec`` and ``result``, which are large and kept apart."""


def row_of(job: Job) -> dict[str, Any]:
    """Column -> str, int, float, bool, bytes or None; without ``spec`` and ``result``."""
    return {
        **{name: getattr(job, name) for name in PLAIN},
        "state": job.state.value,
        "error_code": job.error and job.error.code,
        "error_message": job.error and job.error.message,
        "cancel_wanted": job.cancel_wanted,
    }


class Row(Protocol):
    def __getitem__(self, column: str, /) -> Any: ...


def job_of(row: Row, spec: bytes = b"", result: bytes | None = None) -> Job:
    """The job that a row tells of."""
    return Job(
        **{name: row[name] for name in PLAIN},
        spec=spec,
        result=result,
        state=State(row["state"]),
        error=None if row["error_code"] is None else Failure(row["error_code"], row["error_message"]),
        cancel_wanted=bool(row["cancel_wanted"]),
    )
