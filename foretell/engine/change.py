"""One model's change, between the moment that all is loaded and the moment that it serves."""

from collections.abc import Awaitable, Callable, Sequence

from foretell.engine.start import Loaded
from foretell.repository.model_folder import Found

End = Callable[["Change"], Awaitable[None]]


class Change:
    """A model's new versions, loaded and warm, that serve nothing yet. ``commit`` or ``abandon`` ends it: the first one counts.

    Both go on when their caller goes away.
    """

    def __init__(self, found: Found, fresh: Sequence[Loaded], commit: End, abandon: End) -> None:
        self.found = found
        self.fresh = tuple(fresh)
        self._ends = (commit, abandon)
        self._ended = False

    async def commit(self) -> None:
        """Serve what was prepared, move the labels, drain and take out what is no longer to be served."""
        await self._end(self._ends[0])

    async def abandon(self) -> None:
        """Close what was prepared; what was served goes on."""
        await self._end(self._ends[1])

    async def _end(self, end: End) -> None:
        if not self._ended:
            self._ended = True
            await end(self)
