import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from foretell import demo

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def test_the_demo_answers_every_question_in_words_and_exits_0(capfd: pytest.CaptureFixture[str]) -> None:
    assert demo.run() == 0
    said = capfd.readouterr().out
    assert "This page is phishing (" in said
    assert "This page is legitimate (" in said
    assert "This image is a 7 (" in said
    assert "This image is a 3 (" in said
    assert "This image is a 5 (" in said
    assert f"serve {shlex.quote(str(demo.MODELS))}" in said
    assert said.count("$ curl ") == len(demo.QUESTIONS)


@needs_curl
def test_every_curl_line_works_when_it_is_pasted_in_any_folder(tmp_path: Path) -> None:
    with demo.serving() as address:
        for question in demo.QUESTIONS:
            line = demo.curl(question).replace(demo.BY_HAND, address)
            answer = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, check=True, text=True)
            assert '"predictions":[{' in answer.stdout
            assert f'"model_name":"{question.model}"' in answer.stdout


@needs_curl
def test_every_curl_line_of_the_first_five_minutes_is_answered_as_the_page_says() -> None:
    root = Path(__file__).parent.parent
    blocks = re.findall(r"```sh\n(.*?)```", (root / "docs" / "start.md").read_text(), re.DOTALL)
    lines = [block for block in blocks if "curl " in block]
    assert len(lines) == 6
    with demo.serving() as address:
        for line in lines:
            script = line.replace(demo.BY_HAND, address)
            answer = subprocess.run(script, shell=True, cwd=root, capture_output=True, check=True, text=True)
            expected = '"code":"bad_image"' if "README.md" in line else '"model_name":'
            assert expected in answer.stdout, line


def test_the_printed_way_to_call_foretell_calls_it() -> None:
    called = subprocess.run(f"{demo.command_line()} --version", shell=True, capture_output=True, check=True, text=True)
    assert called.stdout.startswith("foretell ")


def test_the_server_is_gone_after_the_demo() -> None:
    with demo.serving() as address:
        pass
    with pytest.raises(demo.DemoError, match="did not answer"):
        demo.ask(address, demo.QUESTIONS[0])


def test_a_server_that_does_not_start_ends_the_demo_with_a_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert demo.run(tmp_path / "nothing") == 1
    reason = "foretell demo: the server stopped before it was ready; it said:\nforetell: there is no model"
    assert reason in capfd.readouterr().err


def test_a_refused_question_ends_the_demo_with_the_status_and_the_reason() -> None:
    wrong = demo.Question("digits", "phishing.json", "image/png")
    with demo.serving() as address, pytest.raises(demo.DemoError, match=r"refused phishing.json with status 400: .*bad_image"):
        demo.ask(address, wrong)


def test_importing_the_demo_loads_no_package_but_its_own() -> None:
    code = "import sys, foretell.demo; print([name for name in ('numpy', 'onnxruntime', 'PIL') if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert loaded.stdout == "[]\n"


@pytest.mark.parametrize(("share", "words"), [(0.974, "97 %"), (0.9999, "over 99 %"), (1.0, "over 99 %"), (0.001, "under 1 %")])
def test_a_share_is_never_rounded_to_certain_or_impossible(share: float, words: str) -> None:
    assert demo.percent(share) == words


def test_an_eight_takes_an_an() -> None:
    prediction = {"label": ["8", "1", "0"], "probability": [0.48, 0.46, 0.04]}
    assert demo.image_in_words(prediction) == "This image is an 8 (48 %), else a 1 (46 %) or a 0 (4 %)."
