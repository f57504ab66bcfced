"""``foretell ask``: what it sends, what it prints, and how it ends."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import foretell.demo
from foretell.ask import media_type_of, show
from tests.client.troubled import Troubled, refusal
from tests.serving import Served, serving

DEMO = Path(foretell.demo.__file__).parent
SEVEN = DEMO / "inputs" / "seven-28px-grey.png"
PHISHING = DEMO / "inputs" / "phishing.json"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("ask"), models={}, paths=[DEMO / "models"]) as server:
        yield server


@pytest.fixture
def url(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}"


def ask(*arguments: object, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    line = [sys.executable, "-m", "foretell", "ask", *map(str, arguments)]
    return subprocess.run(line, input=stdin, capture_output=True, timeout=60)


def test_an_image_is_answered_in_json_for_programs(url: str) -> None:
    done = ask(url, "digits", SEVEN)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)[0]["label"][0] == "7"


@pytest.mark.parametrize("suffix", ["json", "ndjson", "csv"])
def test_a_file_of_rows_is_answered_row_by_row(suffix: str, url: str, tmp_path: Path) -> None:
    row = json.loads(PHISHING.read_bytes())
    row = row[0] if isinstance(row, list) else row
    forms = {
        "json": json.dumps([row, row]),
        "ndjson": f"{json.dumps(row)}\n{json.dumps(row)}\n",
        "csv": "\n".join([",".join(row), *[",".join(map(str, row.values()))] * 2]),
    }
    path = tmp_path / f"rows.{suffix}"
    path.write_text(forms[suffix])
    for done in (ask(url, "threat", path), ask(url, "threat", path, "--json", "--model-version", "1")):
        assert [each["verdict"] for each in json.loads(done.stdout)] == ["phishing", "phishing"], done.stderr


@pytest.mark.parametrize("path", [SEVEN, PHISHING])
def test_standard_input_is_known_by_its_bytes(path: Path, url: str) -> None:
    done = ask(url, "digits" if path is SEVEN else "threat", "-", stdin=path.read_bytes())
    assert done.returncode == 0, done.stderr


def test_people_get_a_table(url: str) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "foretell", "ask", url, "digits", str(SEVEN)],
        stdout=slave,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "100"},
    ) as process:
        assert process.wait(60) == 0
    os.close(slave)
    shown = os.read(master, 10_000).decode()
    os.close(master)
    title, line = shown.split("\r\n")[:2]
    assert title.split() == ["row", "probability", "label"] or title.split() == ["row", "label", "probability"]
    assert "7, " in line


def test_a_refusal_is_a_sentence_with_its_cure_and_exit_code_1(url: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    done = ask(url, "digits", tmp_path / "bad.png")
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"[bad_image]" in done.stderr
    assert b"what to do: " in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_unknown_model_is_a_refusal(url: str) -> None:
    done = ask(url, "digit", SEVEN)
    assert done.returncode == 1
    assert b"'digit'" in done.stderr


def test_a_server_that_is_not_there_is_a_refusal() -> None:
    done = ask("http://127.0.0.1:9", "digits", SEVEN, "--timeout-s", "1")
    assert done.returncode == 1
    assert b"[unreachable]" in done.stderr


def test_nothing_that_a_server_says_steers_the_terminal() -> None:
    body = json.dumps({"error": "\x1b[2Jgone\nforetell: fine", "code": "brand_new"}).encode()
    reply = refusal(400, "x").partition(b"\r\n")[0] + b"\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with Troubled([reply]).listening() as url:
        done = ask(url, "digits", SEVEN)
    assert done.returncode == 1
    assert b"\x1b" not in done.stderr
    assert b"\\x1b[2Jgone\\nforetell: fine" in done.stderr
    assert b"[brand_new]" in done.stderr


def test_the_key_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    server = Troubled([refusal(400, "bad_row")])
    with server.listening() as url:
        assert ask(url, "m", SEVEN, "--key-file", tmp_path / "key", "--content-type", "image/x").returncode == 1
    assert server.seen[0].headers["authorization"] == "Bearer s3cret"
    assert server.seen[0].headers["content-type"] == "image/x"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("localhost:8000", "m", SEVEN),
        ("http://localhost", "m", "nowhere.json"),
        ("http://localhost", "m", DEMO),
        ("http://localhost", "m", SEVEN, "--timeout-s", "0"),
        ("http://localhost", "m", SEVEN, "--key", "x"),
    ],
)
def test_wrong_use_exits_with_2(arguments: tuple[object, ...]) -> None:
    done = ask(*arguments)
    assert done.returncode == 2
    assert b"Usage: foretell ask" in done.stderr


@pytest.mark.parametrize(
    ("name", "body", "media_type"),
    [
        ("x.CSV", b"", "text/csv"),
        ("x.jsonl", b"", "application/x-ndjson"),
        ("x.txt", b"{}", "text/plain"),
        ("-", b"\x89PNG\r\n\x1a\n...", "image/png"),
        ("-", b"\xff\xd8\xff\xe0...", "image/jpeg"),
        ("-", b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        ("-", b' {"x": [1,\n2]}', "application/json"),
        ("-", b'{"x": 1}\n\n{"x": 2}\n', "application/x-ndjson"),
        ("-", b"[1, 2", "application/json"),
        ("letter", b"Dear Sir,\n", "text/plain"),
        ("blob", b"\x00\xff", "application/octet-stream"),
    ],
)
def test_the_content_type_is_seen_from_name_and_bytes(name: str, body: bytes, media_type: str) -> None:
    assert media_type_of(name, body) == media_type


def test_a_table_shows_every_output_shortened_and_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        [{"a": 0.123456789, "b\x1b": list(range(20))}, {"c": [[1, 2], [3]], "a": "x\ny[red]", "d": {"b64": "AA=="}}],
        as_json=False,
    )
    shown = capsys.readouterr().out
    for part in ("0.123457", "(20 values)", "[1, 2], [3]", "x\\ny[red]", '{"b64":"AA=="}'):
        assert part in " ".join(shown.split()), part
    assert "\x1b" not in shown


def test_a_long_answer_is_cut_in_a_table_and_whole_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"y": number} for number in range(250)]
    show(rows, as_json=False)
    assert "150 more" in capsys.readouterr().out
    show(rows, as_json=True)
    assert json.loads(capsys.readouterr().out) == rows
