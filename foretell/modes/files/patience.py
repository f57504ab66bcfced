"""A pipeline that is asked again when what failed may pass, and that is not waited for without end."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from foretell.errors import Busy, ForetellError, Late, Setup, Unavailable
from foretell.pipeline import Pipeline
from foretell.tensors import Arrays, Signature

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
MOST_HANGING = 64
"""Calls that never came back, after which a run stops: each still holds a thread and its memory."""


class Patient:
    """Calls a pipeline up to ``retries`` times more while it is busy or unavailable, for ``timeout_s`` at most (0: any time).

    May be called from several threads. A call that takes longer is left alone in a thread of its own, as nothing can end it.
    """

    def __init__(
        self, pipeline: Pipeline, retries: int, timeout_s: float, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self.pipeline = pipeline
        self.retries = retries
        self.timeout_s = timeout_s
        self.pause = pause
        self.hanging = 0

    @property
    def signature(self) -> Signature:
        return self.pipeline.signature

    def __call__(self, inputs: Arrays) -> Arrays:
        """Raises what the pipeline raises, Late ``deadline_passed``, and Setup when too many calls hang."""
        for attempt in range(self.retries):
            try:
                return self._call(inputs)
            except (Busy, Unavailable):
                self.pause(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt))
        return self._call(inputs)

    def _call(self, inputs: Arrays) -> Arrays:
        if not self.timeout_s:
            return self.pipeline(inputs)
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._answer, args=(inputs, answers), daemon=True, name="predict-row").start()
        try:
            answer = answers.get(timeout=self.timeout_s)
        except queue.Empty:
            self._note_hanging()
            raise Late("deadline_passed", f"it took more than {self.timeout_s:g} s, as --row-timeout-s says") from None
        if isinstance(answer, ForetellError):
            raise answer
        arrays: Arrays = answer
        return arrays

    def _answer(self, inputs: Arrays, answers: "queue.SimpleQueue[Any]") -> None:
        try:
            answers.put(self.pipeline(inputs))
        except ForetellError as error:
            answers.put(error)
            return

    def _note_hanging(self) -> None:
        self.hanging += 1
        if self.hanging > MOST_HANGING:
            text = f"{self.hanging} calls of the model took more than {self.timeout_s:g} s: allow more by --row-timeout-s"
            raise Setup("too_many_errors", text)
