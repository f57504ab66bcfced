"""What is refused of durable work: jobs, schedules and asynchronous requests."""

from foretell.errors import ForetellError

JOBS: dict[str, tuple[type[ForetellError], str, str]] = {}
