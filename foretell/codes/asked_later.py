"""What is refused of asynchronous requests, of jobs over files, and of webhooks."""

from foretell.errors import Broken, Busy, Conflict, Denied, ForetellError, Invalid, Mismatched, Missing, TooLarge

ASKED_LATER: dict[str, tuple[type[ForetellError], str, str]] = {
    "jobs_off": (
        Denied,
        "This server keeps no jobs.",
        "Have the operator start it with a folder for them: --jobs-state-folder FOLDER.",
    ),
    "unknown_job": (
        Missing,
        "There is no job with this id, or it was deleted after its time to live.",
        "Use the id of the `Location` that the job was accepted with, within `jobs.keep_s` of its end.",
    ),
    "unknown_state": (Invalid, "Jobs are asked for by a state that there is not.", "Use one that the message names."),
    "wrong_job": (
        Invalid,
        "What a job over files is to do is not told as it should be.",
        "Send a JSON object with `model`, `input` and `output`; the message names the field.",
    ),
    "wrong_place": (
        Invalid,
        "The input or output of a job over files is no path that could be used.",
        "Give the full path of a file or folder, or an address in a bucket.",
    ),
    "place_not_listed": (
        Denied,
        "The input or output of a job over files is outside of what the operator listed.",
        "Have the operator add its folder or bucket prefix to the setting `jobs.paths`.",
    ),
    "wrong_webhook": (
        Invalid,
        "The address of a webhook cannot be used.",
        "Write it like https://hooks.example.com/path.",
    ),
    "host_not_listed": (
        Denied,
        "The host of a webhook is not one that the operator listed.",
        "Have the operator add it to the setting `jobs.webhook_hosts`.",
    ),
    "webhook_failed": (
        Broken,
        "A webhook was not heard, however often it was tried.",
        "Look at what answers at its address, and ask for the job's result.",
    ),
    "wrong_key_header": (
        Invalid,
        "An Idempotency-Key cannot be used.",
        "Send one of up to 256 printable ASCII characters, once.",
    ),
    "other_request": (
        Mismatched,
        "An Idempotency-Key was used before, with another request.",
        "Take a new key for each request, and the same one only to send the same request again.",
    ),
    "jobs_full": (
        Busy,
        "As many jobs wait as the setting `jobs.waiting` allows.",
        "Wait for the time that Retry-After names, and send it again.",
    ),
    "job_unfinished": (
        Conflict,
        "The job has not ended.",
        "Wait for its end, or cancel it.",
    ),
    "job_cancelled": (
        Conflict,
        "The job was cancelled: it has no result.",
        "Send the request again if its answer is wanted after all.",
    ),
    "no_failed_rows": (
        Conflict,
        "The job has no failed rows that could be retried.",
        "Look at its state and its report.",
    ),
    "answer_too_large": (
        TooLarge,
        "The answer is larger than what is kept of an asynchronous request.",
        "Ask for fewer rows, or have the operator raise `jobs.max_stored_bytes`.",
    ),
}
