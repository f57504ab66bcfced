"""Which versions of a model are served, and the labels that point at them."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import msgspec

from foretell.errors import Setup
from foretell.repository.prototext import Message
from foretell.repository.split import Split, check_split, keep_served, resolve_split

_VERSION = re.compile(r"0|[1-9][0-9]{0,17}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class VersionsTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[versions]`` of pipeline.toml: the ``keep`` latest versions, all of them, or those that are listed.

    ``labels`` are names such as ``stable``, each for one version that is served. ``checksums``: whether a version without a
    SHA256SUMS is taken for one that is still being copied. ``traffic`` (label or version -> weight), ``sticky`` (a header's
    name) and ``shadow`` (a label or version) say who answers what names no version: see docs/traffic.md.
    """

    policy: Literal["latest", "all"] | list[int] = "latest"
    keep: int = 1
    labels: dict[str, int] = msgspec.field(default_factory=dict)
    checksums: bool = False
    traffic: dict[str, float] = msgspec.field(default_factory=dict)
    sticky: str = ""
    shadow: str = ""

    def check(self, where: object) -> None:
        """Raises Setup ``wrong_setting`` for what no folder could fulfil; ``where`` names the file."""
        if self.keep < 1 or (self.keep > 1 and self.policy != "latest"):
            raise _refusal(where, f'keep takes a number from 1 on, with policy = "latest" alone, not {self.keep}')
        if isinstance(self.policy, list) and (not self.policy or len(set(self.policy)) != len(self.policy)):
            raise _refusal(where, f"policy takes a list of different versions, at least one, not {self.policy}")
        for label in self.labels:
            if not _LABEL.fullmatch(label):
                raise _refusal(where, f"{label[:128]!r} cannot be a label: use up to 128 letters, digits and . _ -")
        check_split(self.traffic, self.sticky, self.shadow, where)

    def restricted(self, only: Collection[str]) -> "VersionsTable":
        """The table that serves these versions whatever its policy says, with those of its labels that point at them."""
        labels = {label: number for label, number in self.labels.items() if str(number) in only}
        has_shadow = len(only) > 1 and str(self.labels.get(self.shadow, self.shadow)) in only
        traffic = keep_served(self.traffic, self.labels, [*only])
        policy = [int(version) for version in only]
        return msgspec.structs.replace(
            self, policy=policy, keep=1, labels=labels, traffic=traffic, shadow=self.shadow if has_shadow else ""
        )

    def choose(self, found: Collection[str], where: object, incomplete: Mapping[str, str]) -> list[str]:
        """The versions to serve of those that were found, oldest first; ``incomplete`` are those that are left out, and why.

        Raises Setup ``wrong_setting`` when a listed version is not there, or a label points at one that is not served.
        """
        oldest_first = sorted(found, key=int)
        if isinstance(self.policy, list):
            chosen = [str(number) for number in sorted(self.policy)]
        else:
            chosen = oldest_first[-self.keep :] if self.policy == "latest" else oldest_first
        for version in chosen:
            if version not in found:
                why = incomplete.get(version, f"there are only {', '.join(oldest_first)}")
                raise _refusal(where, f"version {version} is to be served, but {why}")
        for label, number in self.labels.items():
            if str(number) not in chosen:
                why = incomplete.get(str(number), f"those that are served are {', '.join(chosen)}")
                raise _refusal(where, f"label {label!r} points at version {number}, but {why}")
        self.split(chosen, where)
        return chosen

    def split(self, served: Sequence[str], where: object = "pipeline.toml") -> Split | None:
        """Who answers what names no version; None for the newest. Raises Setup ``wrong_setting``."""
        return resolve_split(self.traffic, self.sticky, self.shadow, self.labels, served, where)


def is_version(name: str) -> bool:
    """Whether a folder of this name is a version: ASCII digits without a leading zero."""
    return _VERSION.fullmatch(name) is not None


def read_policy(message: Message | None) -> VersionsTable:
    """The version policy of a Triton or TensorFlow Serving configuration; both write it in the same way.

    Raises Setup ``broken_config``.
    """
    if message is None:
        return VersionsTable()
    kinds = [name for name in ("latest", "all", "specific") if name in message.fields]
    if len(kinds) != 1 or len(message.fields) != 1:
        raise message.refusal(
            f"a version policy is one of latest, all and specific, not {', '.join(message.fields) or 'nothing'}"
        )
    inner = message.message(kinds[0])
    assert inner is not None
    if kinds == ["latest"]:
        return VersionsTable(keep=inner.whole("num_versions", least=1) or 1)
    if kinds == ["all"]:
        return VersionsTable(policy="all")
    return VersionsTable(policy=inner.wholes("versions"))


def _refusal(where: object, text: str) -> Setup:
    return Setup("wrong_setting", f"{where}, versions: {text}")
