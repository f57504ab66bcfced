"""What is refused of work on a model itself: quantizing, pruning, distilling, tuning."""

from foretell.errors import ForetellError

OPTIMIZING: dict[str, tuple[type[ForetellError], str, str]] = {}
