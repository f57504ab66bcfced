"""Webhooks: signed as the standard says, to listed hosts only, tried again, and no way to where else the server could go."""

import asyncio
import base64
import hashlib
import hmac
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.errors import Denied, Invalid, Setup, Unavailable
from foretell.jobs.addresses import Hosts, is_global
from foretell.jobs.envelope import pack, unpack
from foretell.jobs.job import Failure, Job, State, new_id
from foretell.jobs.webhooks import PAUSES_S, Webhooks, delivery, read_secret, sign, tell_end
from foretell.jobs.work import Again
from tests.modes.http.test_jobs import LATER, accepted, get, result
from tests.serving import MODELS, double, eventually, serving, sleep

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Heard:
    """What a receiver was sent, and what it answers next."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    location: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def receiver() -> Iterator[Heard]:
    """A real server that answers 204, or what it is told to."""
    heard = Heard()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(heard.answers.pop(0) if heard.answers else 204)
            if heard.location:
                self.send_header("location", heard.location)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    heard.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Nothing:
    """Notes that nobody reads."""

    async def progress(self, told: dict[str, object]) -> None: ...

    async def log(self, line: str) -> None: ...


def job_of(url: str, attempts: int = 1) -> Job:
    spec = pack({"url": url, "job": "j"}, b"{}")
    return Job("w", "webhook", spec, 0.0, 0.0, attempts=attempts)


def deliver(hosts: str, url: str, attempts: int = 1, told_of: Job | None = None) -> None:
    asyncio.run(_deliver(Webhooks(Hosts.parse(hosts), read_secret(SECRET), lambda id: told_of), job_of(url, attempts)))


async def _deliver(webhooks: Webhooks, job: Job) -> None:
    await webhooks(job, Nothing())


def test_a_webhook_is_signed_so_that_its_receiver_can_check_it() -> None:
    with receiver() as heard:
        deliver(f"127.0.0.1:{heard.port}", f"http://127.0.0.1:{heard.port}/hook?a=b")
        ((path, headers, body),) = heard.requests
    assert path == "/hook?a=b"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(bytes(range(32)), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    secret = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    assert sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500, 503])
def test_any_other_answer_than_a_success_is_tried_again(status: int) -> None:
    with receiver() as heard, receiver() as other:
        heard.answers, heard.location = [status], f"http://127.0.0.1:{other.port}/"
        with pytest.raises(Again) as again:
            deliver(f"127.0.0.1:{heard.port},127.0.0.1:{other.port}", f"http://127.0.0.1:{heard.port}/")
        assert not other.requests  # a redirect is not followed, not even to a host that is listed
    assert 0.8 * PAUSES_S[0] < again.value.wait_s < 1.2 * PAUSES_S[0]


def test_the_pauses_grow() -> None:
    waits = []
    for attempt in range(1, len(PAUSES_S) + 1):
        with pytest.raises(Again) as again:
            deliver("127.0.0.1:1", "http://127.0.0.1:1/", attempt)
        waits.append(again.value.wait_s)
    assert waits == sorted(waits)


def test_a_receiver_that_is_gone_for_good_is_left_alone() -> None:
    with receiver() as heard:
        heard.answers = [410]
        deliver(f"127.0.0.1:{heard.port}", f"http://127.0.0.1:{heard.port}/")


def test_nothing_is_told_of_a_job_that_has_not_ended() -> None:
    running = Job("j", "request", b"", 0.0, 0.0, state=State.RUNNING)
    with receiver() as heard:
        with pytest.raises(Again) as again:
            deliver(f"127.0.0.1:{heard.port}", f"http://127.0.0.1:{heard.port}/", told_of=running)
        assert again.value.error is None  # so that the attempt does not count
        assert not heard.requests


def test_a_store_that_cannot_be_asked_costs_no_attempt() -> None:
    def find(id: str) -> Job | None:
        raise Unavailable("store_unreachable", "later")

    with pytest.raises(Again) as again:
        asyncio.run(_deliver(Webhooks(Hosts.parse("127.0.0.1:1"), read_secret(SECRET), find), job_of("http://127.0.0.1:1/")))
    assert again.value.error is None


def test_the_code_of_an_attempt_before_is_not_told_of_a_job_that_was_cancelled() -> None:
    job = Job("j", "request", b"", 0.0, 0.0, state=State.CANCELLED, error=Failure("job_abandoned", ""), finished_at=1e9)
    assert "code" not in orjson.loads(tell_end(job))["data"]


def test_what_is_told_is_how_the_job_really_ended_whatever_was_meant_to_be_told() -> None:
    failed = Job("j", "request", b"", 0.0, 0.0, state=State.FAILED, error=Failure("broken_model", ""), finished_at=1e9)
    with receiver() as heard:
        deliver(f"127.0.0.1:{heard.port}", f"http://127.0.0.1:{heard.port}/", told_of=failed)
        ((_, _, body),) = heard.requests
    assert body == tell_end(failed)
    assert orjson.loads(body)["data"] == {"id": "j", "state": "failed", "code": "broken_model", "result": "/jobs/j/result"}


@pytest.mark.parametrize("answer", [b"", b"not HTTP\r\n", b"HTTP/1.1 abc\r\n", b"x" * 100_000, b"HTTP/2 200\r\n"])
def test_what_is_no_answer_is_tried_again(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(answer)

        thread = threading.Thread(target=speak)
        thread.start()
        port = listening.getsockname()[1]
        with pytest.raises(Again):
            deliver(f"127.0.0.1:{port}", f"http://127.0.0.1:{port}/")
        thread.join()


# -- where it may go


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://0/",
        "http://2130706433/",
        "http://0x7f.1/",
        "https://hooks.example.com.evil.example/",
        "https://evil.example/hooks.example.com",
        "https://hooks.example.com:8443/",
        "https://hooks.example.com./",
        "https://sub.hooks.example.com/",
    ],
)
def test_a_host_that_is_not_listed_is_refused(url: str) -> None:
    with pytest.raises(Denied, match="not listed"):
        Hosts.parse("hooks.example.com").check(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "https://user:secret@hooks.example.com/",
        "https://evil.example@hooks.example.com/",
        "https://hooks.example.com/#fragment",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nhost: evil.example",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:x/",
        "https://[::1/",
        "https:///path",
        "https://hooks.example.com/" + "a" * 3000,
        "https://höoks.example.com/",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        Hosts.parse("hooks.example.com").check(url)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["http://", "https://", "", "//"]))
def test_nothing_but_what_is_listed_ever_passes(rest: str, scheme: str) -> None:
    try:
        parts = Hosts.parse("hooks.example.com,10.0.0.1:99").check(scheme + rest)
    except (Invalid, Denied):
        return
    assert (parts.hostname, parts.port) in [("hooks.example.com", port) for port in (None, 80, 443)] + [("10.0.0.1", 99)]


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/", "http://hooks.example.com:80/", "https://HOOKS.example.com:443/a?b"]
)
def test_a_listed_host_is_taken_at_the_port_of_the_scheme(url: str) -> None:
    assert Hosts.parse("hooks.example.com").check(url).hostname == "hooks.example.com"


def test_a_listed_name_that_leads_to_this_machine_is_not_called() -> None:
    with receiver() as heard:
        with pytest.raises(Again):
            deliver(f"localhost:{heard.port}", f"http://localhost:{heard.port}/")
        assert not heard.requests


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "100.64.0.1"),
        *(
            "::1",
            "fe80::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "ff02::1",
        ),
    ],
)
def test_an_address_that_is_not_everybodys_is_known(address: str) -> None:
    assert not is_global(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_an_address_that_is_everybodys_is_known(address: str) -> None:
    assert is_global(address)


@pytest.mark.parametrize("text", ["http://a", "a b", "a:port", "a,b:", "*.example.com", "a/b"])
def test_hosts_that_are_listed_wrongly_are_refused(text: str) -> None:
    with pytest.raises(Setup, match="HOST"):
        Hosts.parse(text)


@pytest.mark.parametrize("text", ["", "abc", "whsec_", "whsec_AAAA", "whsec_" + "A" * 200, "whsec_!!!", SECRET[6:]])
def test_a_secret_that_would_not_do_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(Setup) as refused:
        read_secret(text)
    assert not text or text not in refused.value.message or text == "whsec_"


def test_a_delivery_made_twice_is_the_same_job() -> None:
    job = Job("j", "request", b"", 0.0, 0.0, state=State.DONE, finished_at=1e9)
    first, second = (delivery(job, "https://hooks.example.com/", new_id, 1e9) for _ in range(2))
    assert (first.key, first.owner, first.fingerprint, first.spec) == (
        second.key,
        second.owner,
        second.fingerprint,
        second.spec,
    )
    told = orjson.loads(unpack(first.spec)[1])
    assert told == {
        "type": "job.done",
        "timestamp": "2001-09-09T01:46:40Z",
        "data": {"id": "j", "state": "done", "result": "/jobs/j/result"},
    }


# -- in a real server


def test_the_end_of_a_request_is_told_once_whether_it_is_done_cancelled_or_refused(tmp_path: Path) -> None:
    with receiver() as heard:
        hook = f"foretell-webhook: http://127.0.0.1:{heard.port}/done"
        flags = ("--jobs-state-folder", str(tmp_path / "state"), "--jobs-webhook-hosts", f"127.0.0.1:{heard.port}")
        models = {name: MODELS[name] for name in ("double", "slow")}
        environ = {"FORETELL_JOBS_WEBHOOK_SECRET": SECRET}
        with serving(tmp_path, *flags, "--jobs-poll-s", "0.05", models=models, environ=environ) as served:
            good = accepted(served.ask(double(LATER, hook)))
            bad = accepted(served.ask(double(LATER, hook, x=-666)))
            long = accepted(served.ask(sleep(9, LATER, hook)))
            assert eventually(lambda: get(served, long).json()["state"] == "running")
            assert get(served, long, verb="DELETE").status == 200
            due = accepted(served.ask(sleep(9, LATER, hook)))
            assert get(served, due, verb="DELETE").status == 200
            assert eventually(lambda: len(heard.requests) == 4)
            assert (result(served, good).status, result(served, bad).status) == (200, 500)
            assert served.ask(double(LATER, "foretell-webhook: http://127.0.0.1:1/")).code == "host_not_listed"
    told = {orjson.loads(body)["data"]["id"]: orjson.loads(body)["type"] for _, _, body in heard.requests}
    ids = [path.rpartition("/")[2] for path in (good, bad, long, due)]
    assert [told[id] for id in ids] == ["job.done", "job.done", "job.cancelled", "job.cancelled"]
    assert len(heard.requests) == 4
