"""What happens while models are loaded and run."""

from foretell.errors import Broken, Busy, Cancelled, ForetellError, Late, Unavailable

RUNNING: dict[str, tuple[type[ForetellError], str, str]] = {
    "queue_full": (Busy, "The model's queue is full.", "Try again after `Retry-After` seconds."),
    "overloaded": (
        Busy,
        "By the time that the model takes, the answer would come too late: it was not begun.",
        "Try again after `Retry-After` seconds, or allow more time.",
    ),
    "being_changed": (
        Busy,
        "The model is being loaded or unloaded at this moment.",
        "Try again after `Retry-After` seconds.",
    ),
    "not_ready": (
        Unavailable,
        "The model is loading, or the server is starting or stopping.",
        "Try again after `Retry-After` seconds.",
    ),
    "model_crashed": (
        Unavailable,
        "The process that the model has to itself ended while it computed this request.",
        "Try again after `Retry-After` seconds: another process is being started.",
    ),
    "model_given_up": (
        Unavailable,
        "The process that the model has to itself crashed again and again, and is not started any more.",
        "Have the operator correct the model and load it again: the log says how its process ended.",
    ),
    "deadline_passed": (Late, "The answer could not be given in time.", "Allow more time, or send fewer rows."),
    "unreachable": (
        Unavailable,
        "The client cannot reach the server, or the server hung up before its whole answer came.",
        "Check the address, and that the server runs: the client has tried again already.",
    ),
    "cancelled": (
        Cancelled,
        "The caller went away before the answer.",
        "Nothing to do: the work was not done or its answer was dropped.",
    ),
    "model_failed": (
        Broken,
        "The model raised an error on this input.",
        "Give the error id to the operator: the log has the details.",
    ),
    "step_failed": (
        Broken,
        "A step of the pipeline raised an error on this input.",
        "Give the error id to the operator: the log has the details.",
    ),
    "wrong_output": (
        Broken,
        "The model's output does not have one row for each input row.",
        "Have the operator check the model's batch axis.",
    ),
    "internal": (Broken, "The server made a mistake.", "Give the error id to the operator: the log has the details."),
    "foreign_answer": (
        Broken,
        "The client got an answer that is not foretell's; its exception is of the class of the answer's status.",
        "Check the address, and what stands between client and server.",
    ),
}
