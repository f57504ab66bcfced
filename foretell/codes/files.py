"""What is refused of rows in files and object stores."""

from foretell.errors import ForetellError

FILES: dict[str, tuple[type[ForetellError], str, str]] = {}
