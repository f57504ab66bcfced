"""``foretell demo``: starts the real server with two real models, asks them over HTTP, and says the answers in words."""

import http.client
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
MODELS = HERE / "models"
INPUTS = HERE / "inputs"

READY_WITHIN_S = 60.0
ANSWER_WITHIN_S = 20.0
STOP_WITHIN_S = 30.0
BY_HAND = "http://127.0.0.1:8000"


class DemoError(Exception):
    """Why the demo cannot go on, in a sentence for whoever runs it."""


@dataclass(frozen=True)
class Question:
    """One input file, the model it goes to, and how its body is announced."""

    model: str
    file: str
    content_type: str

    @property
    def path(self) -> Path:
        return INPUTS / self.file


QUESTIONS = (
    Question("threat", "phishing.json", "application/json"),
    Question("threat", "legitimate.json", "application/json"),
    Question("digits", "seven-28px-grey.png", "image/png"),
    Question("digits", "three-90px-blue-on-cream.png", "image/png"),
    Question("digits", "five-160px-palette-black-on-white.png", "image/png"),
    Question("digits", "least-sure-48px-grey.png", "image/png"),
)


def run(models: Path = MODELS) -> int:
    """Run the demo; gives the exit code: 0, or 1 after the reason was printed on standard error."""
    try:
        with serving(models) as address:
            print(f"Two models are served at {address}\n")
            for question in QUESTIONS:
                print(tell(question, ask(address, question)))
    except DemoError as error:
        print(f"foretell demo: {error}", file=sys.stderr)
        return 1
    print("The server is stopped. To repeat this by hand, start it again and leave it running:")
    print(f"  {command_line()} serve {shlex.quote(str(models))}\n")
    return 0


@contextmanager
def serving(models: Path = MODELS) -> Iterator[str]:
    """A folder of models behind a server of their own on a free port; gives its address. Raises DemoError."""
    command = [sys.executable, "-m", "foretell", "serve", str(models), "--host", "127.0.0.1", "--http-port", "0"]
    quick_stop = {"FORETELL_TIMEOUTS_DRAIN_GRACE_S": "0"}
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **quick_stop},
    )
    said: SimpleQueue[str | None] = SimpleQueue()
    listener = threading.Thread(target=_listen, args=(server, said), daemon=True)
    listener.start()
    try:
        yield _wait_ready(said)
        _stop(server)
    finally:
        if server.poll() is None:
            server.kill()
        server.wait()
        listener.join()


def ask(address: str, question: Question) -> dict[str, Any]:
    """The one prediction for one question, by output name. Raises DemoError for any answer but 200."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=ANSWER_WITHIN_S)
    try:
        headers = {"Content-Type": question.content_type}
        connection.request("POST", f"/predict/{question.model}", question.path.read_bytes(), headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise DemoError(f"the server did not answer {question.file}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise DemoError(f"the server refused {question.file} with status {response.status}: {body.decode(errors='replace')}")
    prediction: dict[str, Any] = json.loads(body)["predictions"][0]
    return prediction


def tell(question: Question, prediction: Mapping[str, Any]) -> str:
    """The answer in words, and the line that asks the same by hand."""
    words = {"threat": page_in_words, "digits": image_in_words}[question.model](prediction)
    return f"{question.file}\n  {words}\n  $ {curl(question)}\n"


def page_in_words(prediction: Mapping[str, Any]) -> str:
    """``This page is phishing (97 % sure).``"""
    phishing = float(prediction["phishing_probability"])
    sure = phishing if prediction["verdict"] == "phishing" else 1.0 - phishing
    return f"This page is {prediction['verdict']} ({percent(sure)} sure)."


def image_in_words(prediction: Mapping[str, Any]) -> str:
    """``This image is a 7 (90 %), else a 9 (8 %) or a 3 (2 %).``"""
    pairs = zip(prediction["label"], prediction["probability"], strict=True)
    best, *others = (f"{'an' if label == '8' else 'a'} {label} ({percent(share)})" for label, share in pairs)
    return f"This image is {best}, else {' or '.join(others)}."


def percent(share: float) -> str:
    """``97 %``, and nothing rounded up to certain or down to impossible."""
    rounded = round(100 * share)
    return "over 99 %" if rounded == 100 else "under 1 %" if rounded == 0 else f"{rounded} %"


def curl(question: Question) -> str:
    """The line to paste into a shell, in any folder, while the server runs on its usual port."""
    return (
        f"curl -s -H 'Content-Type: {question.content_type}' --data-binary @{shlex.quote(str(question.path))} "
        f"{BY_HAND}/predict/{question.model}"
    )


def command_line() -> str:
    """How to call this very foretell from a shell: by name where the shell finds it, else by its path."""
    beside = Path(sys.executable).with_name("foretell")
    found = shutil.which("foretell")
    if found and Path(found).resolve() == beside.resolve():
        return "foretell"
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m foretell"


def _listen(server: "subprocess.Popen[str]", said: "SimpleQueue[str | None]") -> None:
    """Every line that the server says, and None once it says no more."""
    assert server.stdout is not None
    with server.stdout:
        for line in server.stdout:
            said.put(line.rstrip())
    said.put(None)


def _wait_ready(said: "SimpleQueue[str | None]") -> str:
    """The address in the server's line ``ready  http://...``; DemoError holds what it said instead."""
    heard: list[str] = []
    deadline = time.monotonic() + READY_WITHIN_S
    try:
        while (line := said.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
            if line.startswith("ready "):
                return next(word for word in line.split() if word.startswith("http://"))
            heard.append(line)
    except Empty:
        raise DemoError(f"the server was not ready within {READY_WITHIN_S:.0f} s; it said:\n" + "\n".join(heard)) from None
    raise DemoError("the server stopped before it was ready; it said:\n" + "\n".join(heard))


def _stop(server: "subprocess.Popen[str]") -> None:
    server.send_signal(signal.SIGTERM)
    try:
        code = server.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise DemoError(f"the server did not stop within {STOP_WITHIN_S:.0f} s of SIGTERM") from None
    if code != 0:
        raise DemoError(f"the server stopped with exit code {code}, not 0")
