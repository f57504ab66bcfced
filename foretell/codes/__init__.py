"""Every stable code, once: its class of error, what it means and what to do. docs/errors.md is made from this table."""

from foretell.codes.asked_later import ASKED_LATER
from foretell.codes.callers import CALLERS
from foretell.codes.clusters import CLUSTERS
from foretell.codes.doors import DOORS
from foretell.codes.files import FILES
from foretell.codes.jobs import JOBS
from foretell.codes.optimizing import OPTIMIZING
from foretell.codes.running import RUNNING
from foretell.codes.setup import SETUP
from foretell.errors import ForetellError, Setup

CODES: dict[str, tuple[type[ForetellError], str, str]] = {
    **CALLERS,
    **DOORS,
    **RUNNING,
    **SETUP,
    **FILES,
    **JOBS,
    **ASKED_LATER,
    **OPTIMIZING,
    **CLUSTERS,
}
"""code -> class, what it means, what to do. A test keeps it complete."""


def tell(error: ForetellError) -> str:
    """The sentence for a caller over the network: that of ``Setup`` names files, and is told by its code if not ``whole``."""
    if not isinstance(error, Setup) or error.whole:
        return error.message
    _, meaning, cure = CODES[error.code]
    return f"{meaning} {cure}"
