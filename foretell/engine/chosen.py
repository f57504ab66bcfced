"""Which models are loaded at the start, and looked after by a poll: what ``repository.load`` says."""

from collections.abc import Sequence

from foretell.errors import Missing, Setup
from foretell.repository import check_found
from foretell.repository.model_folder import Found

ALL, NONE = "*", "none"


class Chosen:
    """``said``: names with commas between, ``*`` for all, or ``none``."""

    def __init__(self, said: str) -> None:
        self._all = said.strip() == ALL
        self._names = [] if said.strip() in {ALL, NONE} else [name.strip() for name in said.split(",")]

    def __contains__(self, name: object) -> bool:
        return self._all or name in self._names

    def of(self, there: Sequence[Found]) -> list[str]:
        """The names of those that are to be loaded. Raises Setup ``wrong_setting`` for one that is not there."""
        known = [found.name for found in there]
        for name in self._names:
            if name not in known:
                has = ", ".join(known) or "none"
                raise Setup("wrong_setting", f"repository.load names {name!r}, which is not there: there are {has}")
        return [name for name in known if name in self]


def check_all(names: Sequence[str], there: Sequence[Found]) -> list[Found]:
    """Of what is there, the models of these names, but those that are still to come.

    Raises Setup for the first that is wrong, and ``missing_file`` for one that is not there.
    """
    found = check_found([each for each in there if each.name in names and not each.is_coming])
    for name in names:
        if name not in {each.name for each in there}:
            raise Setup("missing_file", f"model {name!r}, which other workers serve, is gone from the disk: put it back")
    return found


def unknown_model(name: str) -> Missing:
    return Missing("unknown_model", f"there is no model {name[:128]!r} in this server's repository")
