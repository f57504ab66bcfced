"""A model that writes a text sign by sign, asked over every protocol that has words for it."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from queue import Queue

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.serving import Served, eventually, post, serving

TEXT = "a rose is a rose is a rose; and she sells sea shells by the sea shore, as sure as she sells them. " * 3
WRITER = '''
from pathlib import Path
from collections import Counter, defaultdict
import numpy as np

HERE = Path(__file__).parent

class Writer:
    """Three signs say which comes next: the one that did so most often in a text."""

    signature = foretell.Signature(
        (foretell.TensorSpec.parse("prompt", "BYTES"), foretell.TensorSpec.parse("signs", "INT64")),
        (foretell.TensorSpec.parse("text", "BYTES"),),
    )

    def __init__(self):
        text = (HERE / "text.txt").read_text()
        self.next = defaultdict(Counter)
        for place in range(len(text) - 3):
            self.next[text[place : place + 3]][text[place + 3]] += 1

    def stream(self, inputs):
        try:
            written = inputs["prompt"][0].decode()
            for _ in range(int(inputs["signs"][0])):
                if written.startswith("break") and len(written) > 20:
                    raise RuntimeError("secret")
                sign = self.next[written[-3:]].most_common(1)[0][0]
                written += sign
                yield {"text": np.array([sign.encode()], dtype=object)}
        finally:
            (HERE / "ended").write_text(written)

    def forward(self, inputs):
        signs = [piece["text"][0] for row in range(len(inputs["signs"])) for piece in self.stream(
            {name: array[row : row + 1] for name, array in inputs.items()})]
        return {"text": np.array([b"".join(signs)], dtype=object)}

model = Writer
'''


def written(prompt: str, signs: int) -> str:
    """What the model must write."""
    after: dict[str, Counter[str]] = defaultdict(Counter)
    for place in range(len(TEXT) - 3):
        after[TEXT[place : place + 3]][TEXT[place + 3]] += 1
    text = prompt
    for _ in range(signs):
        text += after[text[-3:]].most_common(1)[0][0]
    return text[len(prompt) :]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("writer")
    (folder / "text.txt").write_text(TEXT)
    with serving(folder, "--grpc-port", "0", models={"writer": WRITER}) as served:
        yield served


def events(served: Served, prompt: str, signs: int) -> tuple[bytes, list[tuple[str, dict[str, object]]]]:
    """The first line of an answer in pieces, and its events by kind."""
    body = json.dumps({"prompt": prompt, "signs": signs})
    with served.wire() as wire:
        wire.send(post("/v2/models/writer/generate_stream", body, "connection: close"))
        raw = b""
        while part := wire.socket.recv(65536):
            raw += part
    told = []
    for event in re.findall(rb"(?:event: (\w+)\n)?data: (.+)\n\n", raw):
        told.append((event[0].decode(), json.loads(event[1])))
    return raw.partition(b"\r\n")[0], told


def test_each_sign_is_an_event(server: Served) -> None:
    status, told = events(server, "a rose", 40)
    assert status == b"HTTP/1.1 200 OK"
    assert "".join(str(event["text"]) for _, event in told) == written("a rose", 40)
    assert len(told) == 40


def test_at_once_the_answer_is_the_same(server: Served) -> None:
    answer = server.ask(post("/v2/models/writer/generate", json.dumps({"prompt": "a rose", "signs": 40})))
    assert answer.json()["text"] == written("a rose", 40)


def test_what_fails_behind_the_first_piece_is_an_event_and_before_it_a_status(server: Served) -> None:
    status, told = events(server, "break, she sells", 40)
    assert status == b"HTTP/1.1 200 OK"
    assert [kind for kind, _ in told] == [""] * 5 + ["error"]
    assert told[-1][1]["code"] == "model_failed"
    status, told = events(server, "zzz", 40)
    assert (status, told) == (b"HTTP/1.1 500 Internal Server Error", [])


def test_a_client_that_goes_away_ends_the_generator(server: Served) -> None:
    ended = server.log.parent / "ended"
    ended.unlink(missing_ok=True)
    with server.wire() as wire:
        wire.send(post("/v2/models/writer/generate_stream", json.dumps({"prompt": "a rose", "signs": 10_000_000})))
        assert b"200 OK" in wire.socket.recv(4096)
        assert not ended.exists()
    assert eventually(ended.exists)
    assert eventually(lambda: server.count("writer", "cancelled") > 0)


def test_a_reader_that_stops_holds_the_generator_and_no_memory(server: Served) -> None:
    before = server.resident_bytes
    with server.wire(receive_bytes=4096) as wire:
        wire.send(post("/v2/models/writer/generate_stream", json.dumps({"prompt": "a rose", "signs": 10_000_000})))
        assert b"200 OK" in wire.socket.recv(1024)
        for _ in range(20):
            assert server.ask(post("/v2/models/writer/generate", json.dumps({"prompt": "a rose", "signs": 1}))).status == 200
        assert server.resident_bytes - before < 16 * 2**20


def pieces(
    served: Served, prompt: str, signs: int, *, final: bool = False
) -> list[tuple[triton.InferResult, Exception | None]]:
    """What Triton's client is told on a stream, up to the answer of a request behind it."""
    got: Queue[tuple[triton.InferResult, Exception | None]] = Queue()
    with triton.InferenceServerClient(served.grpc) as client:
        client.start_stream(lambda result, error: got.put((result, error)))
        client.async_stream_infer("writer", tensors(prompt, signs), request_id="7", enable_empty_final_response=final)
        client.async_stream_infer("none", tensors(prompt, 1))
        told = []
        while "no model" not in str((piece := got.get(timeout=10))[1]):
            told.append(piece)
        client.stop_stream()
    return told


def tensors(prompt: str, signs: int) -> list[triton.InferInput]:
    text, count = triton.InferInput("prompt", [1], "BYTES"), triton.InferInput("signs", [1], "INT64")
    text.set_data_from_numpy(np.array([prompt.encode()], dtype=object))
    count.set_data_from_numpy(np.array([signs]))
    return [text, count]


@pytest.mark.parametrize("final", [False, True])
def test_over_grpc_each_sign_is_a_message_and_an_empty_one_ends_them_for_who_asked(server: Served, *, final: bool) -> None:
    told = pieces(server, "a rose", 30, final=final)
    assert [error for _, error in told] == [None] * len(told)
    messages = [result.get_response() for result, _ in told]
    flags = [message.parameters["triton_final_response"].bool_param for message in messages]
    assert flags == [False] * 30 + [True] * final
    assert {message.id for message in messages} == {"7"}
    text = b"".join(result.as_numpy("text")[0] for result, _ in told[:30])
    assert text.decode() == written("a rose", 30)


def test_over_grpc_an_error_comes_behind_the_pieces_and_the_stream_goes_on(server: Served) -> None:
    told = pieces(server, "break, she sells", 40)
    assert [error is None for _, error in told] == [True] * 5 + [False]
    assert "secret" not in str(told[-1][1])
