"""Reads protobuf's text format strictly, without a schema: https://protobuf.dev/reference/protobuf/textformat-spec/.

Other servers write their configurations in it. Every refusal names the file and the line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foretell.errors import Setup
from foretell.storage import read_small

MOST_BYTES = 4 * 2**20
MOST_DEPTH = 64
MOST_DIGITS = 64
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]++|\#[^\n]*+)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*+)
    |(?P<number>(?:0[xX][0-9a-fA-F]++|(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?[fF]?)(?![A-Za-z0-9_.]))
    |(?P<text>"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+')
    |(?P<symbol>[{}<>\[\]:,;-])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))
_CLOSING = {"{": "}", "<": ">"}


@dataclass(frozen=True)
class Scalar:
    """One value as it is written: a ``text``, a ``number``, or a ``name`` (an enum's value, ``true`` or ``false``)."""

    kind: str
    value: str | int | float
    line: int


@dataclass(frozen=True)
class Message:
    """The fields of one message, each with all its values in order. What is left out reads as None, empty or no."""

    file: Path
    line: int
    fields: Mapping[str, Sequence["Scalar | Message"]]

    def refusal(self, text: str, line: int | None = None) -> Setup:
        """What to raise for a mistake in this message; the line is the message's own unless it is given."""
        return Setup("broken_config", f"{self.file}, line {line or self.line}: {text}")

    def line_of(self, name: str) -> int:
        """Where a field stands first; where the message stands if it has no such field."""
        return self.fields[name][0].line if self.fields.get(name) else self.line

    def message(self, name: str) -> "Message | None":
        """Raises Setup ``broken_config``, as all of these do, for a value of another kind or a second one."""
        self._once(name)
        return next(iter(self.messages(name)), None)

    def messages(self, name: str) -> list["Message"]:
        found = []
        for value in self.fields.get(name, ()):
            if not isinstance(value, Message):
                raise self.refusal(f"{name} takes a message in braces, not {value.value!r}", value.line)
            found.append(value)
        return found

    def text(self, name: str) -> str:
        self._once(name)
        return next(iter(self.texts(name)), "")

    def texts(self, name: str) -> list[str]:
        return [str(value.value) for value in self._scalars(name, "text", "a text in quotes")]

    def word(self, name: str) -> str:
        """The name of an enum's value."""
        self._once(name)
        return next((str(value.value) for value in self._scalars(name, "name", "a name without quotes")), "")

    def flag(self, name: str) -> bool:
        self._once(name)
        words = [self._flag(name, value) for value in self._scalars(name, "name", "true or false")]
        return words == [True]

    def whole(self, name: str, *, least: int = 0) -> int | None:
        self._once(name)
        return next(iter(self.wholes(name, least=least)), None)

    def wholes(self, name: str, *, least: int = 0) -> list[int]:
        """Whole numbers from ``least`` on that 64 bits hold."""
        found = []
        for value in self._scalars(name, "number", "a whole number"):
            if not isinstance(value.value, int) or not least <= value.value < 2**63:
                raise self.refusal(f"{name} takes a whole number from {least} to 2^63 - 1, not {value.value}", value.line)
            found.append(value.value)
        return found

    def _scalars(self, name: str, kind: str, expected: str) -> Iterator[Scalar]:
        for value in self.fields.get(name, ()):
            if isinstance(value, Message):
                raise self.refusal(f"{name} takes {expected}, not a message in braces", value.line)
            if value.kind != kind:
                raise self.refusal(f"{name} takes {expected}, not {value.value!r}", value.line)
            yield value

    def _flag(self, name: str, value: Scalar) -> bool:
        if value.value not in {"true", "false", "True", "False"}:
            raise self.refusal(f"{name} takes true or false, not {value.value!r}", value.line)
        return value.value in {"true", "True"}

    def _once(self, name: str) -> None:
        values = self.fields.get(name, ())
        if len(values) > 1:
            raise self.refusal(f"{name} is given a second time: it takes one value", values[1].line)


def read_prototext(file: Path) -> Message:
    """The message in a file of UTF-8 text of at most 4 MiB. Raises Setup: ``missing_file`` or ``broken_config``."""
    try:
        data = read_small(file, MOST_BYTES)
    except OSError as error:
        raise Setup("missing_file", f"{file} cannot be read ({error.strerror}): correct its permissions") from error
    except ValueError as error:
        raise Setup("broken_config", f"{file} is no configuration, {error}: a configuration is a short text") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Setup("broken_config", f"{file}, line {line}: this is not UTF-8: write the file as UTF-8 text") from error
    return _Reader(text, file).message("", 1, 0)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


class _Reader:
    """Recursive descent over the tokens, with one token of look-ahead."""

    def __init__(self, text: str, file: Path) -> None:
        self.file = file
        self.tokens = self._split(text)
        self.ahead = next(self.tokens)

    def message(self, closing: str, line: int, depth: int) -> Message:
        """The fields up to ``closing``, which is read too; ``""`` is the end of the file."""
        fields: dict[str, list[Scalar | Message]] = {}
        while self.ahead.text != closing:
            name = self._take()
            if name.kind != "name":
                raise self._refusal(name, "the name of a field")
            fields.setdefault(name.text, []).extend(self._values(depth))
            if self.ahead.kind == "symbol" and self.ahead.text in ",;":
                self._take()
        if closing:
            self._take()
        return Message(self.file, line, fields)

    def _values(self, depth: int) -> list[Scalar | Message]:
        """What follows a field's name: one value, or a list of them."""
        colon = self._skip(":")
        if not self._skip("["):
            return [self._value(depth, colon=colon)]
        values: list[Scalar | Message] = []
        while not self._skip("]"):
            if values and not self._skip(","):
                raise self._refusal(self.ahead, "',' or ']'")
            values.append(self._value(depth, colon=colon))
        return values

    def _value(self, depth: int, *, colon: bool) -> Scalar | Message:
        token = self._take()
        if token.kind == "symbol" and token.text in _CLOSING:
            if depth == MOST_DEPTH:
                raise Setup("broken_config", f"{self.file}, line {token.line}: more than {MOST_DEPTH} messages in one another")
            return self.message(_CLOSING[token.text], token.line, depth + 1)
        if not colon:
            raise self._refusal(token, "':' or '{'")
        if token.kind == "text":
            return self._text(token)
        if token.kind == "symbol" and token.text == "-":
            return self._number(self._take(), sign=-1)
        return Scalar("name", token.text, token.line) if token.kind == "name" else self._number(token, sign=1)

    def _text(self, token: _Token) -> Scalar:
        """A text; several that stand next to each other are one."""
        parts = [token]
        while self.ahead.kind == "text":
            parts.append(self._take())
        try:
            value = b"".join(_ESCAPE.sub(_unescaped, part.text[1:-1].encode()) for part in parts).decode()
        except (KeyError, ValueError, OverflowError) as error:  # a ValueError is also what is not UTF-8
            message = f"{self.file}, line {token.line}: the text has an escape that is none, or is not UTF-8"
            raise Setup("broken_config", message) from error
        return Scalar("text", value, token.line)

    def _number(self, token: _Token, *, sign: int) -> Scalar:
        text = token.text.lower()
        if token.kind == "name" and text in {"inf", "infinity", "nan"} and sign < 0:
            return Scalar("number", -float(text), token.line)
        if token.kind != "number":
            raise self._refusal(token, "a value")
        if len(text) > MOST_DIGITS:
            raise Setup("broken_config", f"{self.file}, line {token.line}: a number has more than {MOST_DIGITS} digits")
        if text.startswith("0x"):
            return Scalar("number", sign * int(text, 16), token.line)
        if not text.isdigit():
            return Scalar("number", sign * float(text.rstrip("f")), token.line)
        if text.startswith("0") and len(text) > 1 and set(text) & {"8", "9"}:
            raise self._refusal(token, "a number: one that starts with 0 is octal")
        return Scalar("number", sign * int(text, 8 if text.startswith("0") else 10), token.line)

    def _skip(self, symbol: str) -> bool:
        """Whether the next token is that symbol; if so, it is read."""
        found = self.ahead.kind == "symbol" and self.ahead.text == symbol
        if found:
            self._take()
        return found

    def _take(self) -> _Token:
        token = self.ahead
        if token.kind != "end":
            self.ahead = next(self.tokens)
        return token

    def _refusal(self, token: _Token, expected: str) -> Setup:
        got = "the end of the file" if token.kind == "end" else repr(token.text[:40])
        return Setup("broken_config", f"{self.file}, line {token.line}: expected {expected}, got {got}")

    def _split(self, text: str) -> Iterator[_Token]:
        place, line = 0, 1
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None or match.lastgroup is None:
                raise Setup("broken_config", f"{self.file}, line {line}: {text[place : place + 20]!r} is not text format")
            if match.lastgroup != "space":
                yield _Token(match.lastgroup, match[0], line)
            line += match[0].count("\n")
            place = match.end()
        yield _Token("end", "", line)


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, short, long, letter = match.groups()
    if octal is not None:
        return bytes([int(octal, 8)])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if letter is not None:
        return bytes([_ESCAPED[letter[0]]])
    return chr(int(short or long, 16)).encode()
