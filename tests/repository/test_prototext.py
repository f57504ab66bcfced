"""Protobuf's text format, read without a schema."""

import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretell.errors import Setup
from foretell.repository.prototext import MOST_BYTES, Message, Scalar, read_prototext

CONFIG = """
name: "a" 'b'   # two texts side by side are one
max: 8, max_hex: 0x10; octal: 017 float: 1.5e3f small: -.5 low: -7 far: -inf
dims: [ 1, -1 ]
dims: 3
kind: KIND_CPU on: true
inner { x: 1 } inner: < x: 2 >
list: [ { x: 1 }, { x: 2 } ]
text: "\\n\\t\\"\\x41\\101\\u00e9\\U0001F600é"
empty: []
"""


def read(folder: Path, text: str | bytes) -> Message:
    file = folder / "config.pbtxt"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_prototext(file)


def refusal(folder: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(Setup) as caught:
        read(folder, text)
    assert caught.value.code == "broken_config"
    assert str(folder / "config.pbtxt") in caught.value.message
    assert words in caught.value.message


def test_every_form_of_a_value_is_read(tmp_path: Path) -> None:
    root = read(tmp_path, CONFIG)
    assert root.text("name") == "ab"
    assert [root.whole(name, least=-9) for name in ("max", "max_hex", "octal", "low")] == [8, 16, 15, -7]
    numbers = [value.value for name in ("float", "small", "far") for value in root.fields[name] if isinstance(value, Scalar)]
    assert numbers == [1500.0, -0.5, -math.inf]
    assert root.wholes("dims", least=-1) == [1, -1, 3]
    assert (root.word("kind"), root.flag("on"), root.flag("off")) == ("KIND_CPU", True, False)
    assert [each.whole("x") for name in ("inner", "list") for each in root.messages(name)] == [1, 2, 1, 2]
    assert root.text("text") == '\n\t"AAé\U0001f600é'
    assert (root.wholes("empty"), root.line_of("empty"), root.line_of("low")) == ([], 1, 3)
    assert (root.whole("none"), root.message("none"), root.text("none")) == (None, None, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb {\n", "line 3: expected the name of a field, got the end of the file"),
        ("a: 1\n}", "line 2: expected the name of a field, got '}'"),
        ("\n\na 1", "line 3: expected ':' or '{', got '1'"),
        ("a: {", "got the end of the file"),
        ("a: < x: 1 }", "line 1: expected the name of a field, got '}'"),
        ("a: [1 2]", "expected ',' or ']', got '2'"),
        ("a: [1,", "expected a value, got the end of the file"),
        ('a: "x', "is not text format"),
        ('a: "x\ny"', "line 1: '\"x"),
        ("a: 12x", "is not text format"),
        ("a: 089", "one that starts with 0 is octal"),
        ("a: - x", "expected a value"),
        ('a: "\\q"', "escape"),
        ('a: "\\xff"', "not UTF-8"),
        ('a: "\\777"', "escape"),
        ('a: "\\ud800"', "not UTF-8"),
        ('a: "\\UFFFFFFFF"', "escape"),
        ("a: " + "9" * 5000, "more than 64 digits"),
        ("a: @", "is not text format"),
        ("[a.b]: 1", "expected the name of a field, got '['"),
        (b"a: 1\nb: '\xff'", "line 2: this is not UTF-8"),
        (b"\0", "is not text format"),
    ],
)
def test_what_is_not_text_format_is_named_with_its_line(text: str | bytes, words: str, tmp_path: Path) -> None:
    refusal(tmp_path, text, words)


@pytest.mark.parametrize("opening", ["a {", "a: <", "a: [{", "a: ["])
def test_deep_nesting_is_refused_at_once(opening: str, tmp_path: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(Setup) as caught:
        read(tmp_path, opening * 100_000)
    assert caught.value.code == "broken_config"
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "text", ["a: 1 " * 50_000, '"' * 500_000, "a: " + "'\\'" * 300_000, "#" * 10**6, "-" * 10**6, "a: 0x" + "f" * 10**6]
)
def test_long_files_take_time_by_their_length_only(text: str, tmp_path: Path) -> None:
    def seconds(text: str) -> float:
        start = time.thread_time()
        try:
            read(tmp_path, text)
        except Setup as error:
            assert error.code == "broken_config"  # noqa: PT017 - both ends are good
        return time.thread_time() - start

    assert seconds(text) < 0.5 + 12 * seconds(text[: len(text) // 5])  # by the square it would be 25 times


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    refusal(tmp_path, b"#" * (MOST_BYTES + 1), "a configuration is a short text")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Setup, match="No such file"):
        read_prototext(tmp_path / "gone.pbtxt")


@pytest.mark.parametrize(
    ("method", "text", "words"),
    [
        ("text", "\nx: 3", "line 2: x takes a text in quotes, not 3"),
        ("text", 'x: "a" x: "b"', "x is given a second time"),
        ("whole", "x: 1.5", "x takes a whole number from 0 to 2^63 - 1, not 1.5"),
        ("whole", "x: -1", "x takes a whole number from 0"),
        ("whole", "x: 9223372036854775808", "not 9223372036854775808"),
        ("whole", 'x: "1"', "x takes a whole number, not '1'"),
        ("whole", "x { }", "x takes a whole number, not a message in braces"),
        ("flag", "x: maybe", "x takes true or false, not 'maybe'"),
        ("word", 'x: "KIND"', "x takes a name without quotes"),
        ("message", "x: 3", "x takes a message in braces, not 3"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_line(method: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Setup) as caught:
        getattr(read(tmp_path, text), method)("x")
    assert words in caught.value.message


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.one_of(
    TEXTS.map(lambda text: ("text", text)), st.integers(-(2**63), 2**64 - 1).map(lambda number: ("number", number))
)
TREES = st.recursive(
    st.dictionaries(NAMES, st.lists(SCALARS, min_size=1, max_size=3), max_size=4),
    lambda inner: st.dictionaries(NAMES, st.lists(inner, min_size=1, max_size=2), max_size=3),
    max_leaves=12,
)


def written(tree: dict[str, list[Any]]) -> str:
    lines = []
    for name, values in tree.items():
        for value in values:
            if isinstance(value, dict):
                lines.append(f"{name} {{ {written(value)} }}")
            elif value[0] == "number":
                lines.append(f"{name}: {value[1]}")
            else:
                quoted = "".join(
                    f"\\{byte:03o}" if byte < 32 or byte > 126 or byte in b"\\\"'" else chr(byte) for byte in value[1].encode()
                )
                lines.append(f'{name}: "{quoted}"')
    return "\n".join(lines)


def plain(message: Message) -> dict[str, list[Any]]:
    return {
        name: [plain(value) if isinstance(value, Message) else (value.kind, value.value) for value in values]
        for name, values in message.fields.items()
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(TREES)
def test_what_was_written_is_read(tmp_path: Path, tree: dict[str, list[Any]]) -> None:
    assert plain(read(tmp_path, written(tree))) == tree


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.text("ab01.-+xf{}<>[]:,;#\"'\\ \n", max_size=100).map(str.encode)))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    try:
        assert isinstance(read(tmp_path, data), Message)
    except Setup as error:
        assert error.code == "broken_config"  # noqa: PT017 - both ends are good
