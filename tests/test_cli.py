"""The command line: what it prints, where, and with which exit code."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import foretell.demo
from foretell.cli import cli
from foretell.cli.group import Verbs
from foretell.settings import walk

MODELS = Path(foretell.demo.__file__).parent / "models"
VERBS = ("serve", "predict", "inspect", "ask", "bench", "demo")
FEATURES = [
    "empty_server_form_handler",
    "popup_window",
    "https",
    "request_from_other_domain",
    "anchor_from_other_domain",
    "is_popular",
    "long_url",
    "age_of_domain",
    "ip_in_url",
]


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    logger = logging.getLogger("foretell")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def run(*arguments: object, **environ: str) -> Result:
    """The command in this process."""
    return CliRunner(env=environ).invoke(cli, [str(argument) for argument in arguments], prog_name="foretell")


def rows_file(folder: Path, *values: object) -> Path:
    """An NDJSON file with a row for each value, which is that of every feature."""
    path = folder / "rows.ndjson"
    path.write_text("".join(json.dumps(dict.fromkeys(FEATURES, value)) + "\n" for value in values))
    return path


def test_help_lists_the_verbs_in_the_order_of_use() -> None:
    shown = run("--help").stdout
    places = [shown.index(f"\n  {verb} ") for verb in VERBS]
    assert places == sorted(places)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_shows_an_example(verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert f"\n    foretell {verb}" in result.stdout


def test_every_setting_is_a_flag_of_its_verb() -> None:
    for key in walk():
        assert (f"  {key.flag}" in run(key.verb, "--help").stdout) is not key.secret, key.name


def test_version_is_one_line() -> None:
    assert run("--version").stdout == f"foretell {foretell.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serv", "x.onnx"], "did you mean 'serve'?"),
        (["model.onnx"], "did you mean `foretell serve model.onnx`?"),
        (["serve"], "foretell serve model.onnx"),
        (["serve", "--prot", "80"], "--prot"),
        (["predict", "m.onnx", "in.csv"], "--output"),
        (["predict", "m.onnx", "in.csv", "out.csv"], "-o out.csv"),
        (["predict", "m.onnx", "in.csv", "-o", "out.csv", "--map", "Age"], "INPUT=COLUMN"),
    ],
)
def test_wrong_use_says_the_right_one_and_exits_with_2(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""


def test_a_folder_or_file_without_a_verb_means_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    result = run("models")
    assert result.exit_code == 2
    assert "did you mean `foretell serve models`?" in result.stderr


def test_print_config_is_a_settings_file_with_origins() -> None:
    result = run("serve", "--print-config", "--http-port", "81", "--no-http-fast-lane", FORETELL_HOST="::1")
    assert result.exit_code == 0
    config = tomllib.loads(result.stdout)
    assert (config["host"], config["http"]["port"], config["http"]["fast_lane"]) == ("::1", 81, False)
    origins = dict(line.split(" # ") for line in result.stdout.splitlines() if " # " in line)
    assert {origin for setting, origin in origins.items() if setting.startswith(("host", "port = 81", "fast_lane"))} == {
        "FORETELL_HOST",
        "--http-port",
        "--http-fast-lane",
    }


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (["--http-port", "x"], {}, "--http-port says 'x'"),
        ([], {"FORETELL_HTTP_PRT": "1"}, "did you mean 'FORETELL_HTTP_PORT'?"),
        (["--config", "nowhere.toml"], {}, "nowhere.toml"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(arguments: list[str], environ: dict[str, str], says: str) -> None:
    result = run("serve", "nothing.onnx", *arguments, **environ)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "what to do: " in result.stderr


@pytest.mark.parametrize("verb", [("serve",), ("serve", "--check"), ("inspect",)])
def test_a_model_that_is_not_there_is_refused_in_a_sentence(verb: tuple[str, ...]) -> None:
    result = run(*verb, "nothing.onnx")
    assert result.exit_code == 1
    assert result.stderr.startswith("foretell: ")
    assert "nothing.onnx" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("arguments", "environ"), [(["--log-level", "debug"], {}), ([], {"FORETELL_LOG_LEVEL": "debug"})])
def test_a_traceback_is_shown_at_log_level_debug(arguments: list[str], environ: dict[str, str]) -> None:
    result = run("inspect", "nothing.onnx", *arguments, **environ)
    assert "Traceback" in result.stderr
    assert "foretell: " in result.stderr


def test_a_mistake_of_our_own_is_a_sentence_too() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    result = CliRunner().invoke(Verbs(commands={"fail": click.Command("fail", callback=fail)}), ["fail"])
    assert result.exit_code == 1
    assert result.stderr.startswith("foretell: a mistake of its own: ZeroDivisionError")
    assert "Traceback" not in result.stderr


def test_check_loads_every_model_and_shows_it() -> None:
    result = run("serve", "--check", MODELS)
    assert result.exit_code == 0
    assert {"digits", "threat", "image", "phishing_probability"} <= set(result.stdout.split())


def test_inspect_shows_what_goes_in_and_out() -> None:
    result = run("inspect", MODELS / "digits")
    assert result.exit_code == 0
    for part in (
        "digits  version 1",
        "image",
        "BYTES",
        "[rows, 3]",
        "image.decode(mode='L')",
        "labels.top_k(k=3",
        "to warm up",
    ):
        assert part in result.stdout


REFUSING = """
import foretell

@foretell.model(inputs={"x": "FP32"}, outputs={"y": "FP32"})
def positive(arrays):
    if (arrays["x"] <= 0).any():
        raise ValueError("x must be above 0")
    return {"y": arrays["x"]}
"""


def test_a_model_that_refuses_made_up_rows_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(REFUSING)
    model = f"{tmp_path / 'app.py'}:positive"
    for verb in (("serve", "--check"), ("inspect",)):
        shown = run(*verb, model).stdout
        assert "not measured" in shown
        assert "it refuses made-up rows (ValueError: x must be above 0)" in shown
        assert "in a thread of its own" in shown
        assert " 0 µs" not in shown


def test_check_and_inspect_say_alike_where_a_model_runs() -> None:
    for verb in (("serve", "--check"), ("inspect",)):
        shown = run(*verb, MODELS / "threat").stdout
        assert "in the event loop" in shown or "in a thread of its own" in shown
        assert "inline" not in shown


def test_inspect_shows_the_description(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "threat", tmp_path / "threat")
    file = tmp_path / "threat" / "pipeline.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("description")]
    file.write_text("\n".join(['description = "Is this page phishing?"', *lines]))
    assert "Is this page phishing?" in run("inspect", tmp_path / "threat").stdout
    (facts,) = json.loads(run("inspect", tmp_path / "threat", "--json").stdout)["models"]
    assert facts["description"] == "Is this page phishing?"


def test_inspect_gives_programs_json() -> None:
    (digits, threat) = json.loads(run("inspect", MODELS, "--json").stdout)["models"]
    assert digits["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert [spec["name"] for spec in threat["inputs"]] == FEATURES
    assert digits["bytes"] > 0
    assert digits["load_ms"] > 0
    assert digits["warm_up_ms"] > 0


def test_predict_answers_a_file(tmp_path: Path) -> None:
    out = tmp_path / "answers.ndjson"
    result = run("predict", MODELS / "threat", rows_file(tmp_path, 0.0, 0.5, 1.0), "-o", out)
    assert result.exit_code == 0, result.stderr
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [answer["verdict"] in {"legitimate", "phishing"} for answer in answers] == [True, True, True]
    assert "3 rows answered in " in result.stderr
    assert result.stdout == ""


def test_predict_exits_with_3_if_some_rows_failed(tmp_path: Path) -> None:
    out = tmp_path / "answers.ndjson"
    result = run("predict", MODELS / "threat", rows_file(tmp_path, 0.0, "no number", 1.0), "-o", out)
    assert result.exit_code == 3, result.stderr
    assert len(out.read_text().splitlines()) == 2
    assert "1 row could not be answered" in result.stderr
    assert "answers.ndjson.errors.ndjson" in result.stderr


def test_predict_to_standard_output_says_where_its_reasons_are(tmp_path: Path) -> None:
    result = run("predict", MODELS / "threat", rows_file(tmp_path, 0.0, "no number"), "-o", "-")
    assert result.exit_code == 3, result.stderr
    assert "1 row could not be answered: the lines above say why" in result.stderr
    assert "None" not in result.stderr


def test_predict_reads_an_input_from_a_column_of_another_name(tmp_path: Path) -> None:
    rows = rows_file(tmp_path, 1.0)
    rows.write_text(rows.read_text().replace('"https"', '"TLS"'))
    assert run("predict", MODELS / "threat", rows, "-o", tmp_path / "a.ndjson", "--map", "https=TLS").exit_code == 0


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "foretell", *map(str, arguments)]


def test_a_broken_model_is_refused_within_five_seconds(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model at all")
    start = time.monotonic()
    done = subprocess.run(command("serve", tmp_path / "bad.onnx", "--http-port", 0), capture_output=True, text=True, timeout=30)
    assert time.monotonic() - start < 5
    assert done.returncode == 1
    assert "bad.onnx" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(command("serve", MODELS, "--http-port", port), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "[wrong_address]" in done.stderr


def test_serve_says_when_it_is_ready_and_stops_on_sigterm() -> None:
    line = command("serve", MODELS, "--http-port", 0, "--timeouts-drain-grace-s", 0, "--log-level", "error")
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as server:
        try:
            assert server.stdout is not None
            ready = server.stdout.readline()
            url = next(word for word in ready.split() if word.startswith("http://"))
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10) as answer:
                assert answer.status == 200
            server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0
        finally:
            server.kill()
