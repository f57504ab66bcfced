"""What is refused of durable work: jobs, schedules and asynchronous requests."""

from foretell.errors import Broken, ForetellError, Invalid, Setup, Unavailable

JOBS: dict[str, tuple[type[ForetellError], str, str]] = {
    "key_reused": (
        Invalid,
        "The idempotency key was used before, for something else.",
        "Send a new key with new work; the same key only to repeat the same request.",
    ),
    "job_abandoned": (
        Broken,
        "Whoever ran the job went away in the middle, as often as the job may be tried.",
        "Look in the server's log for how its processes ended; submit the job again once the cause is gone.",
    ),
    "store_unusable": (
        Setup,
        "The store of jobs cannot be opened.",
        "Make the folder writable with room to spare, or correct the URL, as the message says.",
    ),
    "store_newer": (
        Setup,
        "The store of jobs was written by a newer version.",
        "Start that version, or name another state folder.",
    ),
    "store_unreachable": (
        Unavailable,
        "The store of jobs does not answer.",
        "Try again after `Retry-After` seconds; have the operator look at the database.",
    ),
    "store_full": (
        Unavailable,
        "The store of jobs has no room left.",
        "Have the operator make room on its disk; what was there is kept.",
    ),
    "wrong_schedule": (
        Setup,
        "The file of schedules cannot be used.",
        "Correct the schedule that the message names; docs/queue.md lists every key.",
    ),
}
