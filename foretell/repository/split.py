"""How the requests of a model that name no version are split between its versions, as pipeline.toml says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from re import compile as pattern

from foretell.errors import Setup

_HEADER = pattern(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")


@dataclass(frozen=True)
class Split:
    """Weights of the versions that answer, the header whose value keeps a caller at one of them, and who gets copies."""

    weights: Mapping[str, float]
    sticky: str = ""
    shadow: str = ""

    def __str__(self) -> str:
        whole = sum(self.weights.values())
        shares = ", ".join(f"{100 * weight / whole:.3g} % to version {version}" for version, weight in self.weights.items())
        sticky = f", the same for the same {self.sticky}" if self.sticky else ""
        return f"traffic: {shares}{sticky}" + (f"; copies to version {self.shadow}" if self.shadow else "")


def check_split(traffic: Mapping[str, float], sticky: str, shadow: str, where: object) -> None:
    """Raises Setup ``wrong_setting`` for what no version could fulfil; ``where`` names the file."""
    for name, weight in traffic.items():
        if not (isfinite(weight) and weight > 0):
            raise refusal(where, f"traffic gives {name[:128]!r} the weight {weight:g}: use numbers above 0")
    if sticky and not _HEADER.fullmatch(sticky):
        raise refusal(where, f'sticky takes the name of a header, such as "x-user-id", not {sticky[:80]!r}')
    if sticky and len(traffic) < 2:
        raise refusal(where, "sticky keeps callers at one of several versions: name them, as traffic = {1 = 95, 2 = 5}")


def resolve_split(
    traffic: Mapping[str, float], sticky: str, shadow: str, labels: Mapping[str, int], served: Sequence[str], where: object
) -> Split | None:
    """The split between versions that are served, oldest first; None where there is nothing to split.

    Raises Setup ``wrong_setting`` for a version or label that is not there, and for one that is there twice.
    """
    if not traffic and not shadow:
        return None
    weights: dict[str, float] = {}
    for name, weight in traffic.items():
        version = _version("traffic", name, labels, served, where)
        if version in weights:
            raise refusal(where, f"traffic has version {version} twice, once as {name!r}: give it one weight")
        weights[version] = weight
    copied = _version("shadow", shadow, labels, served, where) if shadow else ""
    if copied in weights:
        raise refusal(where, f"version {copied} is the shadow, and in traffic too: it gets copies, or callers, not both")
    if not weights:
        others = [version for version in served if version != copied]
        if not others:
            raise refusal(where, f"shadow is version {copied}, the only one that is served: serve the one that answers too")
        weights = {others[-1]: 1.0}
    return Split(weights, sticky.lower(), copied)


def keep_served(names: Mapping[str, float], labels: Mapping[str, int], served: Sequence[str]) -> dict[str, float]:
    """The weights of those versions and labels that are served."""
    return {name: weight for name, weight in names.items() if str(labels.get(name, name)) in served}


def refusal(where: object, text: str) -> Setup:
    """What is wrong with ``[versions]``."""
    return Setup("wrong_setting", f"{where}, versions: {text}")


def _version(key: str, name: str, labels: Mapping[str, int], served: Sequence[str], where: object) -> str:
    version = str(labels.get(name, name))
    if version not in served:
        what = f"{name[:128]!r}" + (f" (version {version})" if name in labels else "")
        known = ", ".join([*served, *labels])
        raise refusal(where, f"{key} names {what}, which is not served: use one of {known}")
    return version
