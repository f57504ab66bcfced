"""When the clients try again, how long they wait, and when they give up; against a real server in trouble."""

import email.utils
import socket
import ssl
import subprocess
import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from foretell.client import Client, Retry
from foretell.client.retry import read_retry_after
from foretell.errors import Broken, Busy, ForetellError, Invalid, Late, Missing, Setup, TooLarge, Unavailable
from tests.client.troubled import RESET, Connect, Naps, Troubled, answer, refusal

pytestmark = pytest.mark.clocked

X = {"x": np.zeros((1, 2), np.float32)}


@pytest.mark.parametrize(
    "trouble",
    [
        refusal(503, "not_ready"),
        refusal(429, "queue_full"),
        answer(503, b"<h1>no pod</h1>"),
        RESET,
        answer(200)[:-9],
    ],
    ids=["503", "429", "503 of a proxy", "reset", "cut"],
)
def test_trouble_that_passes_is_waited_out(trouble: bytes, connect: Connect) -> None:
    naps, server = Naps(), Troubled([trouble, answer(200, Connection="close")], hang_up=True)
    with server.listening() as url, connect(url, naps) as client:
        assert client.infer("m", X)["y"].tolist() == [7]
    assert naps.taken == [0.1]
    assert len(server.seen) == 2


def test_retry_after_is_waited_before_the_jitter(connect: Connect) -> None:
    naps, server = Naps(), Troubled([refusal(503, "not_ready", Retry_After="7"), answer(200)])
    with server.listening() as url, connect(url, naps) as client:
        client.infer("m", X)
    assert naps.taken == [7.1]


def test_the_waits_double_up_to_the_longest(connect: Connect) -> None:
    naps, server = Naps(), Troubled([refusal(429, "queue_full")])
    retry = Retry(most=6, longest_wait_s=1.0, random=lambda: 1.0)
    with server.listening() as url, connect(url, naps, retry=retry) as client, pytest.raises(Busy):
        client.infer("m", X)
    assert naps.taken == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_jitter_is_a_random_part_of_the_wait(connect: Connect) -> None:
    naps, server = Naps(), Troubled([refusal(429, "queue_full"), answer(200)])
    with server.listening() as url, connect(url, naps, retry=Retry(random=lambda: 0.25)) as client:
        client.infer("m", X)
    assert naps.taken == [0.025]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "wrong_shape", Invalid),
        (404, "unknown_model", Missing),
        (413, "body_too_large", TooLarge),
        (500, "model_failed", Broken),
        (502, "foreign_answer", Broken),
        (504, "deadline_passed", Late),
    ],
)
def test_other_refusals_are_final(status: int, code: str, kind: type[ForetellError], connect: Connect) -> None:
    naps, server = Naps(), Troubled([refusal(status, code)])
    with server.listening() as url, connect(url, naps) as client, pytest.raises(kind) as caught:
        client.infer("m", X)
    assert (caught.value.code, caught.value.message) == (code, "a sentence")
    assert caught.value.details == {"got": 3, "status": status}
    assert (naps.taken, len(server.seen)) == ([], 1)


def test_the_last_refusal_is_raised_when_all_tries_failed(connect: Connect) -> None:
    naps, server = Naps(), Troubled([refusal(503, "not_ready", Retry_After="2")])
    with server.listening() as url, connect(url, naps) as client, pytest.raises(Unavailable) as caught:
        client.infer("m", X)
    assert caught.value.details["retry_after_s"] == 2.0
    assert naps.taken == [2.1, 2.2, 2.4]


def test_a_spent_budget_ends_all_retries_until_successes_fill_it(connect: Connect) -> None:
    retry = Retry(budget=2.0, put_back=0.5, random=lambda: 1.0)
    down, up = refusal(503, "not_ready"), answer(200)
    naps, server = Naps(), Troubled([*[down] * 4, up, up, down, up])
    with server.listening() as url, connect(url, naps, retry=retry) as client:
        for _ in range(2):
            with pytest.raises(Unavailable):
                client.infer("m", X)
        assert len(server.seen) == 3 + 1
        client.infer("m", X)
        client.infer("m", X)
        client.infer("m", X)
    assert len(server.seen) == 8


def test_nothing_is_waited_for_that_comes_after_the_deadline(connect: Connect) -> None:
    naps, server = Naps(), Troubled([refusal(429, "queue_full", Retry_After="3600")])
    with server.listening() as url, connect(url, naps) as client, pytest.raises(Busy):
        client.infer("m", X, timeout_s=10.0)
    assert (naps.taken, len(server.seen)) == ([], 1)


def test_the_server_is_told_what_is_left_of_the_time_at_every_try(connect: Connect) -> None:
    naps, server = Naps(), Troubled([refusal(503, "not_ready", Retry_After="4")])
    with server.listening() as url, connect(url, naps) as client, pytest.raises(Unavailable):
        client.infer("m", X, timeout_s=10.0)
    assert naps.taken == [4.1, 4.2]
    assert [seen.head["parameters"]["timeout"] for seen in server.seen] == pytest.approx([10e6, 5.9e6, 1.7e6])


def test_a_shorter_time_that_the_caller_sends_is_kept(connect: Connect) -> None:
    server = Troubled([answer(200)])
    with server.listening() as url, connect(url) as client:
        client.infer("m", X, parameters={"timeout": 1234, "priority": 1})
    assert server.seen[0].head["parameters"] == {"timeout": 1234, "priority": 1, "binary_data_output": True}


def test_a_server_that_never_answers_is_late(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        start = time.monotonic()
        with connect(url) as client, pytest.raises(Late):
            client.infer("m", X, timeout_s=0.2)
    assert 0.2 <= time.monotonic() - start < 2.0


def test_a_server_that_is_not_there_is_unreachable_and_not_ready(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    naps = Naps()
    with connect(url, naps) as client:
        assert not client.is_ready()
        with pytest.raises(Unavailable, match="cannot be reached") as caught:
            client.models()
    assert caught.value.code == "unreachable"
    assert len(naps.taken) == 3


def test_a_request_of_a_sequence_is_never_sent_twice_unless_it_was_refused(connect: Connect) -> None:
    server = Troubled([answer(200), refusal(429, "queue_full"), RESET])
    with server.listening() as url, connect(url, Naps()) as client:
        client.infer("m", X)  # leaves a connection behind, which is used and then torn down
        with pytest.raises(Unavailable):
            client.infer("m", X, parameters={"sequence_id": 9})
    assert len(server.seen) == 3


def test_connections_are_kept(connect: Connect) -> None:
    server = Troubled([answer(200)])
    with server.listening() as url, connect(url) as client:
        for _ in range(5):
            client.infer("m", X)
    assert server.connections == 1


def test_a_connection_that_the_server_has_closed_is_no_trouble(connect: Connect) -> None:
    naps, server = Naps(), Troubled([answer(200)], hang_up=True)
    with server.listening() as url, connect(url, naps) as client:
        for _ in range(5):
            client.infer("m", X)
    assert (server.connections, naps.taken) == (5, [])


def test_a_connection_that_was_idle_for_long_is_not_used_again(connect: Connect) -> None:
    naps, server = Naps(), Troubled([answer(200)])
    with server.listening() as url, connect(url, naps, idle_s=50.0) as client:
        client.infer("m", X)
        naps.clock.now += 51.0
        client.infer("m", X)
    assert server.connections == 2


def test_a_forked_process_shares_no_connection(connect: Connect) -> None:
    server = Troubled([answer(200)])
    with server.listening() as url, connect(url) as client:
        client.infer("m", X)
        pool = getattr(client, "client", client)._calls.exchange.pool
        pool.process = -1  # as in a child
        client.infer("m", X)
    assert server.connections == 2


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answer(302, b"", Location="http://elsewhere/"), "redirects"),
        (answer(200, b"<h1>hello</h1>"), "not one of the Open Inference Protocol"),
        (answer(200, b'{"outputs":[]}tail', Inference_Header_Content_Length="14"), "has 18"),
        (answer(200, b'{"outputs":[]}', Inference_Header_Content_Length="99"), "'99'"),
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
    ],
    ids=["redirect", "page", "leftovers", "head too long", "ssh"],
)
def test_what_is_not_an_answer_is_said_to_be_none(reply: bytes, says: str, connect: Connect) -> None:
    server = Troubled([reply])
    with server.listening() as url, connect(url, Naps()) as client, pytest.raises(Broken, match=says) as caught:
        client.infer("m", X)
    assert caught.value.code == "foreign_answer"
    assert len(server.seen) == 1


def test_the_key_is_sent_as_a_bearer_token_and_the_path_of_the_address_stays(connect: Connect) -> None:
    server = Troubled([answer(200)])
    with server.listening() as url, connect(f"{url}/prefix/", key="s3cret") as client:
        client.infer("m", X, version="stable")
        client.infer("m", X, version="3")
    assert [seen.path for seen in server.seen] == [
        "/prefix/v2/models/m/labels/stable/infer",
        "/prefix/v2/models/m/versions/3/infer",
    ]
    assert server.seen[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("key", ["", "two words", "a\r\nx: y", "ü"])
def test_a_key_that_no_header_holds_is_refused_without_being_told(key: str) -> None:
    with pytest.raises(Setup) as caught:
        Client("http://localhost", key=key)
    assert not key or key not in caught.value.message


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x", "http://", "http://u:p@h", "http://h:x", "http://h/?q", "http://h/a b", "http://ü"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Setup, match="address"):
        Client(url)


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_there_is_no_call_without_an_end(timeout_s: float) -> None:
    with pytest.raises(Setup, match="timeout_s"):
        Client("http://localhost", timeout_s=timeout_s)


def test_a_certificate_is_verified(tmp_path: Path, connect: Connect) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*line.split(), *files], check=True, capture_output=True)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(cert, key)
    server = Troubled([answer(200)], tls=served)
    with server.listening() as url:
        with connect(url) as client, pytest.raises(Setup, match="not trusted"):
            client.infer("m", X)
        assert server.seen == []
        with connect(url, tls=ssl.create_default_context(cafile=cert)) as client:
            assert client.infer("m", X)["y"].tolist() == [7]


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    now = 1_700_000_000.0
    assert read_retry_after("12") == 12.0
    assert read_retry_after(email.utils.formatdate(now + 30, usegmt=True), lambda: now) == 30.0
    assert read_retry_after(email.utils.formatdate(now - 30, usegmt=True), lambda: now) == 0.0
    assert [read_retry_after(value) for value in (None, "", "soon", "-1", "1e9", "٣")] == [None] * 6


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_is_too_long_is_refused_and_its_connection_closed(status: int, connect: Connect) -> None:
    server = Troubled([answer(status, b"[" + b" " * 2**21 + b"]"), answer(200, b"[]")])
    with server.listening() as url, connect(url, max_response_bytes=2**20) as client:
        with pytest.raises(Broken) as caught:
            client.models()
        assert client.models() == []
    assert caught.value.code == "foreign_answer"
    assert server.connections == 2


@pytest.mark.parametrize("asked", [-5, True, "7", None, [1]])
def test_a_wait_in_the_body_that_is_no_time_is_not_heeded(asked: object, connect: Connect) -> None:
    body = orjson.dumps({"error": "x", "code": "not_ready", "retry_after_s": asked})
    naps, server = Naps(), Troubled([answer(503, body), answer(200)])
    with server.listening() as url, connect(url, naps) as client:
        client.infer("m", X)
    assert naps.taken == [0.1]


def test_a_wait_without_end_is_not_begun(connect: Connect) -> None:
    naps, server = Naps(), Troubled([answer(503, b'{"error":"x","code":"not_ready","retry_after_s":1e308}')])
    with server.listening() as url, connect(url, naps) as client, pytest.raises(Unavailable):
        client.infer("m", X)
    assert naps.taken == []


@pytest.mark.parametrize(
    "value", ["1 Jan 99999999999999999999 0:0:0", "((((", ", , , ,", "-5", "Mon, 01 Jan 9999 00:00:00 +9999", "²"]
)
def test_a_retry_after_that_is_no_time_is_not_heeded(value: str) -> None:
    assert read_retry_after(value) is None


def test_json_of_another_kind_is_a_foreign_answer(connect: Connect) -> None:
    with Troubled([answer(200, b"[1]")]).listening() as url, connect(url) as client:
        for call in (client.metadata, lambda model: client.predict(model, [1])):
            with pytest.raises(Broken) as caught:
                call("m")
            assert caught.value.code == "foreign_answer"
