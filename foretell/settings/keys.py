"""One setting as users meet it, with its limits, and how a value of it is read."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from foretell.errors import Setup
from foretell.settings.tree import Settings

PREFIX = "FORETELL_"


@dataclass(frozen=True)
class Key:
    """One setting as users meet it: ``http.port`` in a file's ``[http]``, ``FORETELL_HTTP_PORT``, ``--http-port``.

    ``verb`` is the command that has the flag; a ``secret`` has none, and its value is not shown.
    """

    name: str
    type: type
    default: Any
    help: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    verb: str = "serve"
    secret: bool = False

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def env(self) -> str:
        return PREFIX + self.name.replace(".", "_").upper()

    @property
    def flag(self) -> str:
        """With its section in front, but for a section that one verb has to itself."""
        name = self.name.rpartition(".")[2] if self.section == self.verb else self.name
        return "--" + name.replace(".", "-").replace("_", "-")

    @property
    def expected(self) -> str:
        """The values that are allowed, in words: ``a whole number from 0 to 65535``."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        return "a text" if self.default == "" else _TYPE_WORDS[self.type] + self.limits

    @property
    def limits(self) -> str:
        """``" from 0 to 65535"``, ``" of at least 1"``, or nothing."""
        if self.least is None or self.most is None:
            return "" if self.least is None else f" of at least {self.least:g}"
        return f" from {self.least:g} to {self.most:g}"

    @property
    def shown_default(self) -> str:
        """The default as a person reads it; bytes with their MiB or KiB."""
        if self.default == "":
            return "none"
        if self.name.endswith("_bytes") and self.default:
            size, unit = (self.default // 2**20, "MiB") if self.default % 2**20 == 0 else (self.default // 2**10, "KiB")
            return f"{self.default} = {size} {unit}"
        return (
            str(self.default).lower() if self.type is bool else f"{self.default:g}" if self.type is float else str(self.default)
        )

    def read(self, value: object, origin: str, *, text: bool = False) -> Any:
        """``value`` in this setting's type and limits; ``text`` also reads numbers and booleans written as text.

        Raises Setup ``wrong_setting``, naming setting, origin, expected and got.
        """
        import msgspec

        try:
            read: Any = msgspec.convert(value, self.type, strict=not text)
        except msgspec.ValidationError:
            raise self._refusal(value, origin) from None
        if not self._allows(read):
            raise self._refusal(value, origin)
        return read

    def _allows(self, value: Any) -> bool:
        if isinstance(value, str):
            return value in self.choices if self.choices else bool(value.strip()) or value == self.default
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def _refusal(self, got: object, origin: str) -> Setup:
        shown = "something else" if self.secret else repr(got)[:80]
        message = f"setting {self.name} takes {self.expected}, but {origin} says {shown}"
        return Setup("wrong_setting", message, setting=self.name, origin=origin, expected=self.expected, got=shown)


_TYPE_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text that is not empty",
}


def walk(tree: type = Settings, prefix: str = "", verb: str = "serve") -> Iterator[Key]:
    """Every setting of a dataclass tree, in the order of the source."""
    for item in fields(tree):
        name, meta, kind = prefix + item.name, item.metadata, item.type
        assert isinstance(kind, type)
        if is_dataclass(kind):
            yield from walk(kind, f"{name}.", meta.get("verb", verb))
        else:
            limits = {limit: meta[limit] for limit in ("least", "most", "choices", "secret")}
            yield Key(name, kind, item.default, meta["help"], verb=verb, **limits)
