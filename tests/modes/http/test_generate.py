"""The generate door: an object by names, at once and as events."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import orjson
import pytest

from foretell.backends.python import PythonModel
from foretell.errors import Broken
from foretell.modes.http.generate import EventStream
from foretell.modes.http.status import refusal
from foretell.pipeline import Pipeline
from foretell.tensors import Array, Arrays, Datatype, Signature, TensorSpec
from foretell.testing import FakeBackend, InProcess, Response

TEXT = TensorSpec("text_input", Datatype.BYTES, (1,))
TOKENS = TensorSpec("tokens", Datatype.INT64, (None,))


def shout(*inputs: TensorSpec) -> Pipeline:
    def compute(arrays: Arrays) -> Arrays:
        texts: list[bytes] = arrays["text_input"].reshape(-1).tolist()
        loud: Array = np.array([[text.upper()] for text in texts], dtype=object)
        if b"RAISE" in loud:
            raise RuntimeError("secret")
        return {"text_output": loud, "count": np.array([[1, 2]] * len(loud), np.int32)}

    outputs = TensorSpec("text_output", Datatype.BYTES, (1,)), TensorSpec("count", Datatype.INT32, (2,))
    return Pipeline(PythonModel(Signature(inputs, outputs), compute))


def ask(body: object, verb: str = "generate", pipeline: Pipeline | None = None) -> Response:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    with InProcess(pipeline or shout(TEXT)) as client:
        return client.request("POST", f"/v2/models/m/{verb}", raw, {"content-type": "application/json"})


def test_inputs_and_outputs_stand_under_their_names() -> None:
    answer = ask({"text_input": "hello", "parameters": {"temperature": 0}, "max_tokens": 9, "id": "7"})
    expected = {"model_name": "m", "model_version": "1", "id": "7", "text_output": "HELLO", "count": [1, 2]}
    assert answer.json() == expected


@pytest.mark.parametrize("value", ["hello", ["hello"]])
def test_a_single_value_may_be_bare(value: object) -> None:
    assert ask({"text_input": value}).json()["text_output"] == "HELLO"


def test_an_input_may_be_a_list() -> None:
    assert ask({"text_input": "a", "tokens": [1, 2, 3]}, pipeline=shout(TEXT, TOKENS)).status == 200


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_input"),
        ({"text": "a"}, "missing_input"),
        ({"text_input": 1}, "bad_row"),
        ({"text_input": ["a", "b"]}, "wrong_shape"),
        ({"text_input": "a", "parameters": 1}, "invalid_json"),
        ({"text_input": "a", "id": 1}, "invalid_json"),
        ({"text_input": "a", "timeout": -1}, "unknown_parameter"),
        ([], "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"z":' * 100_000, "invalid_json"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_refused_with_a_status(verb: str, body: object, code: str) -> None:
    answer = ask(body, verb)
    assert (answer.status, answer.json()["code"]) == (400, code)
    assert answer.headers["content-type"] == "application/json"


def test_a_stream_is_made_of_events() -> None:
    answer = ask({"text_input": "hello"}, "generate_stream")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    start, _, rest = answer.body.partition(b"data: ")
    assert start == b""
    assert rest.endswith(b"\n\n")
    assert orjson.loads(rest)["text_output"] == "HELLO"


def test_a_failure_before_the_first_event_has_a_status() -> None:
    answer = ask({"text_input": "raise"}, "generate_stream")
    assert (answer.status, answer.json()["code"]) == (500, "model_failed")


def test_a_failure_after_the_first_event_is_an_event() -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def run() -> None:
        events = EventStream(send, [])
        await events.tell(b"{}")
        assert events.started
        await events.fail(refusal(Broken("model_failed", "the model raised an error on this input")))

    asyncio.run(run())
    assert [message["type"] for message in sent] == ["http.response.start", *["http.response.body"] * 2]
    assert sent[1]["body"] == b"data: {}\n\n"
    kind, data, _ = sent[2]["body"].split(b"\n", 2)
    assert kind == b"event: error"
    assert orjson.loads(data.removeprefix(b"data: "))["code"] == "model_failed"


def test_a_model_that_is_not_there_is_404() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        for verb in ("generate", "generate_stream"):
            answer = client.request("POST", f"/v2/models/z/{verb}", b"{}", {"content-type": "application/json"})
            assert (answer.status, answer.json()["code"]) == (404, "unknown_model")
