"""Chromium without a window, told what to do over a pipe by its DevTools protocol."""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Browser:
    """``open`` a page, then ``evaluate`` a script in it. Messages are JSON with a NUL behind; Chromium has them on 3 and 4."""

    def __init__(self, profile: Path) -> None:
        self.profile = profile
        self.number = 0
        self.session: dict[str, str] = {}

    def __enter__(self) -> "Browser":
        assert CHROMIUM is not None
        (theirs_in, ours_out), (ours_in, theirs_out) = _pipe(), _pipe()

        def give() -> None:
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        # preexec_fn: the browser wants its pipe on 3 and 4, whatever stands there in this process
        line = [CHROMIUM, *FLAGS, f"--user-data-dir={self.profile}"]
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(line, close_fds=False, preexec_fn=give, stdin=null, stdout=null, stderr=null)  # noqa: PLW1509
        os.close(theirs_in)
        os.close(theirs_out)
        self.out, self.into = os.fdopen(ours_out, "wb", buffering=0), os.fdopen(ours_in, "rb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self.out.close()
        self.into.close()

    def open(self, url: str) -> None:
        """Load a page in a tab of its own."""
        self.session = {}
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self._call("Page.enable")
        self._call("Page.navigate", url=url)
        while self._read().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page, awaited if it is a promise."""
        told = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"]["value"]

    def _call(self, method: str, **params: object) -> Any:
        self.number += 1
        self.out.write(json.dumps({"id": self.number, "method": method, "params": params, **self.session}).encode() + b"\0")
        while (told := self._read()).get("id") != self.number:
            pass
        assert "result" in told, told
        return told["result"]

    def _read(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self.into.read(1)) != b"\0":
            assert byte, "the browser is gone"
            message += byte
        told: dict[str, Any] = json.loads(message)
        return told


def _pipe() -> tuple[int, int]:
    """A pipe whose ends do not stand where the browser wants its own."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
