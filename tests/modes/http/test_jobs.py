"""Requests that are answered later, and the routes of jobs, on real servers: what is accepted is done, and done once."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.modes.http.documented import calls
from tests.serving import MODELS, Reply, Served, double, eventually, infer, post, serving, sleep

KEY = "k" * 32
LATER = "prefer: respond-async"
ADMIN = f"authorization: Bearer {KEY}"
MOST_STORED = 100_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    """Two workers, which share their jobs, and a folder that jobs over files may use."""
    (folder / "data").mkdir()
    flags = ("--jobs-state-folder", str(folder / "state"), "--jobs-paths", str(folder / "data"), "--workers", "2")
    limits = ("--jobs-max-stored-bytes", str(MOST_STORED), "--jobs-poll-s", "0.05", "--jobs-waiting", "1000")
    with serving(folder, *flags, *limits, environ={"FORETELL_ADMIN_KEY": KEY}) as served:
        yield served


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that keeps no jobs."""
    with serving(tmp_path_factory.mktemp("plain"), models={"double": MODELS["double"]}) as served:
        yield served


def get(served: Served, path: str, *headers: str, verb: str = "GET") -> Reply:
    return served.ask("\r\n".join([f"{verb} {path} HTTP/1.1", "host: localhost", *headers]).encode() + b"\r\n\r\n")


def accepted(reply: Reply) -> str:
    """The path of the job that a request became."""
    assert reply.status == 202, reply
    assert reply.header(b"preference-applied") == b"respond-async"
    path = (reply.header(b"location") or b"").decode()
    assert re.fullmatch("/jobs/[0-9a-f]{48}", path)
    assert path.endswith(reply.json()["id"])
    return path


def result(served: Served, path: str, *headers: str) -> Reply:
    """The result, once there is one: a job over files gives way to whatever else the machine does."""
    for _ in range(40):
        reply = get(served, path + "/result", "prefer: wait=5", *headers)
        if reply.status != 202:
            break
    return reply


def later(request: bytes, *headers: str) -> bytes:
    """The same request, to be answered later."""
    line, rest = request.split(b"\r\n", 1)
    return b"\r\n".join([line, *(header.encode() for header in (LATER, *headers)), rest])


BINARY = (
    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],'
    b'"parameters":{"binary_data_output":true}}'
)
SAME: dict[str, bytes] = {
    "tensors": double("x-request-id: 17"),
    "binary tensors": post(
        "/v2/models/double/infer", BINARY + b"\0" * 8, f"inference-header-content-length: {len(BINARY)}", kind=None
    ),
    "a version": post("/v2/models/double/versions/1/infer", double().partition(b"\r\n\r\n")[2]),
    "rows": post("/predict/double", '[{"x":[1,2]},{"x":[3,4]}]'),
    "CSV": post("/predict/slow", "seconds\n0.01\n", kind="text/csv"),
    "TensorFlow Serving": post("/v1/models/double:predict", '{"instances":[[1,2]]}'),
    "TorchServe": post("/predictions/double", '{"x":[1,2]}', verb="PUT"),
    "generate": post("/v2/models/double/generate", '{"x":[1,2]}'),
    "a wrong shape": post("/predict/double", '{"x":[1,2,3]}'),
    "no JSON": post("/v2/models/double/infer", "{"),
    "a model that raises": post("/predict/double", '{"x":[-666,0]}'),
    "a large answer": infer("text", "text", ["a" * 70_000], shape=[1], datatype="BYTES"),
}


@pytest.mark.parametrize("name", SAME)
def test_the_result_is_the_answer_that_would_have_come_at_once(served: Served, name: str) -> None:
    at_once = served.ask(SAME[name])
    kept = result(served, accepted(served.ask(later(SAME[name]))))
    assert sorted(kept.comparable()[2]) == sorted(at_once.comparable()[2])
    assert (kept.status, kept.comparable()[3]) == (at_once.status, at_once.comparable()[3])


def test_a_result_is_compressed_for_who_takes_that(served: Served) -> None:
    path = accepted(served.ask(later(SAME["a large answer"], "accept-encoding: gzip")))
    assert result(served, path).header(b"content-encoding") is None
    assert result(served, path, "accept-encoding: gzip").header(b"content-encoding") == b"gzip"


def test_a_result_may_be_fetched_again_and_again(served: Served) -> None:
    path = accepted(served.ask(double(LATER)))
    first = result(served, path)
    assert first.status == 200
    assert result(served, path).comparable() == first.comparable()


def test_before_there_is_a_result_the_job_is_told(served: Served) -> None:
    path = accepted(served.ask(sleep(0.5, LATER)))
    early = get(served, path + "/result")
    assert (early.status, early.header(b"retry-after")) == (202, b"1")
    assert early.json()["state"] in ("waiting", "running")
    assert result(served, path).status == 200
    status = get(served, path).json()
    assert (status["state"], status["kind"], status["attempts"]) == ("done", "request", 1)
    assert status["created_at"] <= status["started_at"] <= status["finished_at"] < status["expires_at"]


@pytest.mark.parametrize("prefer", ["respond-async", "Respond-Async", "wait=1, respond-async", "respond-async; foo=1, a=b"])
def test_the_preference_is_read_as_rfc_7240_has_it(served: Served, prefer: str) -> None:
    accepted(served.ask(double(f"prefer: {prefer}")))


@pytest.mark.parametrize(
    "prefer", ["", "wait=10", "respond-sync", "a=respond-async", "x" * 5000, "," * 900, "respond-async" * 9]
)
def test_any_other_preference_is_ignored(served: Served, prefer: str) -> None:
    assert served.ask(double(f"prefer: {prefer}")).comparable() == served.ask(double()).comparable()


def test_where_no_jobs_are_kept_the_preference_is_ignored(plain: Served) -> None:
    assert plain.ask(double(LATER, "idempotency-key: a")).comparable() == plain.ask(double()).comparable()


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/jobs"),
        ("POST", "/jobs"),
        *(
            (verb, "/jobs/" + "0" * 48 + end)
            for verb, end in (("GET", ""), ("DELETE", ""), ("GET", "/result"), ("POST", "/retry"))
        ),
    ],
)
def test_where_no_jobs_are_kept_every_route_says_what_to_set(plain: Served, verb: str, path: str) -> None:
    answer = plain.ask(post(path, "{}", ADMIN, verb=verb))
    assert (answer.status, answer.code) == (403, "jobs_off")
    assert "--jobs-state-folder" in answer.json()["error"]


def test_a_stream_is_answered_at_once(served: Served) -> None:
    with served.wire() as wire:
        wire.send(post("/v2/models/double/generate_stream", '{"x":[1,2]}', LATER))
        assert wire.socket.recv(2**16).startswith(b"HTTP/1.1 200 OK")


def test_an_unknown_model_is_refused_at_once(served: Served) -> None:
    assert served.ask(infer("nosuch", "x", [1], LATER, shape=[1])).code == "unknown_model"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (post("/v2/models/double/infer", "a", LATER, kind="text/csv"), "unsupported_content_type"),
        (post("/v2/models/double/infer", "{}", LATER, "content-encoding: zstd"), "unsupported_encoding"),
        (post("/predict/double", b" " * (MOST_STORED + 1), LATER), "body_too_large"),
        (post("/predict/double", b" " * (64 * 2**20 + 1), LATER), "body_too_large"),
        (double(LATER, "idempotency-key: "), "wrong_key_header"),
        (double(LATER, 'idempotency-key: ""'), "wrong_key_header"),
        (double(LATER, "idempotency-key: " + "k" * 257), "wrong_key_header"),
        (double(LATER, "idempotency-key: a", "idempotency-key: b"), "wrong_key_header"),
        (double(LATER, "idempotency-key: \xe9"), "wrong_key_header"),
        (double(LATER, "foretell-webhook: https://example.com/"), "host_not_listed"),
        (double(LATER, "foretell-webhook: file:///etc/passwd"), "wrong_webhook"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(served: Served, request_: bytes, code: str) -> None:
    answer = served.ask(request_)
    assert 400 <= answer.status < 500
    assert answer.code == code


def test_a_body_at_the_limit_is_kept(served: Served) -> None:
    body = b'{"x":[1,2]}'
    assert result(served, accepted(served.ask(post("/predict/double", body.ljust(MOST_STORED), LATER)))).status == 200


def test_an_answer_over_the_limit_is_told_as_such(served: Served) -> None:
    rows = orjson.dumps([{"x": [1.5, 2.5]}] * 4000)
    assert len(rows) < MOST_STORED
    path = accepted(served.ask(post("/predict/double", rows, LATER)))
    answer = result(served, path)
    assert (answer.status, answer.code) == (413, "answer_too_large")
    assert get(served, path).json()["state"] == "failed"


# -- idempotency keys


def test_the_same_key_with_the_same_body_is_the_same_job(served: Served) -> None:
    request = double(LATER, 'idempotency-key: "8e03978e"')
    with ThreadPoolExecutor(8) as pool:
        paths = {accepted(reply) for reply in pool.map(served.ask, [request] * 32)}
    assert len(paths) == 1
    assert accepted(served.ask(double(LATER, "idempotency-key: 8e03978e", "x-request-id: another"))) in paths


@pytest.mark.parametrize("other", ["body", "path", "content type"])
def test_the_same_key_with_another_request_is_refused(served: Served, other: str) -> None:
    key = f"idempotency-key: {other}"
    accepted(served.ask(post("/predict/double", '{"x":[1,2]}', LATER, key)))
    path = "/predictions/double" if other == "path" else "/predict/double"
    body, kind = (
        '{"x":[9,2]}' if other == "body" else '{"x":[1,2]}',
        "application/x-ndjson" if "type" in other else "application/json",
    )
    answer = served.ask(post(path, body, LATER, key, kind=kind))
    assert (answer.status, answer.code) == (422, "other_request")


# -- cancelling


@pytest.mark.parametrize(("verb", "end"), [("DELETE", ""), ("POST", "/cancel")])
def test_a_job_is_cancelled_and_has_no_result(served: Served, verb: str, end: str) -> None:
    path = accepted(served.ask(sleep(20, LATER)))
    assert get(served, path + end, verb=verb).status == 200
    assert eventually(lambda: get(served, path).json()["state"] == "cancelled")
    answer = get(served, path + "/result")
    assert (answer.status, answer.code) == (409, "job_cancelled")


def test_cancelling_what_has_ended_changes_nothing(served: Served) -> None:
    path = accepted(served.ask(double(LATER)))
    assert result(served, path).status == 200
    assert get(served, path, verb="DELETE").json()["state"] == "done"
    assert result(served, path).status == 200


# -- ids, and who may see what


@pytest.mark.parametrize(
    "id", ["0" * 48, "0", "A" * 48, "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "a" * 5000, "%00", "'; DROP TABLE jobs; --"]
)
def test_an_id_that_is_no_jobs_is_404(served: Served, id: str) -> None:
    for end in ("", "/result", "/logs"):
        assert get(served, f"/jobs/{id.replace(' ', '%20')}{end}", ADMIN).status == 404


@dataclass(frozen=True)
class Route:
    """One route, and what it answers a stranger and a holder of the key."""

    verb: str
    end: str
    stranger: int
    holder: int


REQUESTS_JOB = [
    Route("GET", "", 200, 200),
    Route("GET", "/result", 200, 200),
    Route("DELETE", "", 200, 200),
    Route("POST", "/cancel", 200, 200),
    Route("GET", "/logs", 200, 200),
    Route("POST", "/retry", 409, 409),
]
FILES_JOB = [
    Route("GET", "", 401, 200),
    Route("GET", "/result", 401, 200),
    Route("GET", "/logs", 401, 200),
    Route("POST", "/retry", 401, 409),
    Route("DELETE", "", 401, 200),
    Route("POST", "/cancel", 401, 200),
]
CREDENTIALS = ("", "authorization: Bearer wrong", "authorization: Basic " + KEY, "authorization: Bearer")


@pytest.mark.parametrize("credentials", [*CREDENTIALS, ADMIN])
def test_every_route_of_a_job_lets_in_whom_it_should(served: Served, folder: Path, credentials: str) -> None:
    is_holder = credentials == ADMIN
    request_job = accepted(served.ask(double(LATER)))
    assert result(served, request_job).status == 200
    files_job = submit(served, folder).json()["id"]
    assert result(served, "/jobs/" + files_job, ADMIN).status == 200
    for path, routes in ((request_job, REQUESTS_JOB), ("/jobs/" + files_job, FILES_JOB)):
        for route in routes:
            answer = get(served, path + route.end, *([credentials] if credentials else []), verb=route.verb)
            assert answer.status == (route.holder if is_holder else route.stranger), (route, answer)
    for verb in ("GET", "POST"):
        listed = served.ask(post("/jobs", "{}", *([credentials] if credentials else []), verb=verb))
        assert listed.status == (401 if not is_holder else 200 if verb == "GET" else 400)


def test_the_matrix_has_every_route_there_is(served: Served) -> None:
    paths = served.get("/openapi.json").json()["paths"]
    ends = {path.removeprefix("/jobs/{id}") for path in paths if path.startswith("/jobs/")}
    assert ends == {route.end for route in REQUESTS_JOB} == {route.end for route in FILES_JOB}
    verbs = {
        (verb.upper(), path.removeprefix("/jobs/{id}")) for path in paths if path.startswith("/jobs/") for verb in paths[path]
    }
    assert verbs == {(route.verb, route.end) for route in REQUESTS_JOB} == {(route.verb, route.end) for route in FILES_JOB}


def test_a_page_of_another_site_may_not_administer(served: Served) -> None:
    assert get(served, "/jobs", ADMIN, "origin: https://evil.example").code == "foreign_origin"


@pytest.mark.parametrize(
    "query",
    [
        "state=lost",
        "state=expired",
        "limit=0",
        "limit=-1",
        "limit=1e9",
        "limit=99999999999",
        "limit=" + "0" * 30 + "1",
        "limit=000000001000000",
        "limit=x",
    ],
)
def test_a_listing_that_cannot_be_is_refused(served: Served, query: str) -> None:
    assert get(served, f"/jobs?{query}", ADMIN).code == "unknown_state"


def test_jobs_are_listed_page_by_page_the_newest_first(served: Served) -> None:
    ids = [accepted(served.ask(double(LATER, x=number))).rpartition("/")[2] for number in range(5)]
    seen: list[str] = []
    after = ""
    while len(seen) < 5:
        page = get(served, f"/jobs?limit=2{after}", ADMIN).json()
        seen += [job["id"] for job in page["jobs"]]
        after = f"&after={page['after']}"
    assert seen[:5] == ids[::-1]


def test_every_status_that_is_described_for_jobs_is_one_that_the_table_of_errors_has(served: Served) -> None:
    described = [call for call in calls(served.get("/openapi.json").json()) if call.path.startswith("/jobs")]
    assert len(described) == 8
    assert all({"403", "431"} <= set(call.operation["responses"]) for call in described)


def test_metrics_count_jobs_by_state(served: Served) -> None:
    path = accepted(served.ask(double(LATER)))
    assert result(served, path).status == 200

    def done() -> float:
        match = re.search(rb'^foretell_jobs\{state="done"\} (\S+)', served.get("/metrics").body, re.MULTILINE)
        return float(match[1]) if match else 0.0

    assert eventually(lambda: done() > 0)


# -- jobs over files


def submit(served: Served, folder: Path, *headers: str, **more: Any) -> Reply:
    """A job over two rows."""
    rows, answers = folder / "data" / "rows.ndjson", folder / "data" / f"answers{time.monotonic_ns()}.ndjson"
    rows.write_text('{"x":[1,2]}\n{"x":[3,4]}\n')
    order = {"model": "double", "input": str(rows), "output": str(answers), **more}
    return served.ask(post("/jobs", orjson.dumps(order), ADMIN, *headers))


def test_a_job_over_files_answers_its_rows_and_reports(served: Served, folder: Path) -> None:
    reply = submit(served, folder, batch_rows=1)
    assert reply.status == 202
    report = result(served, "/jobs/" + reply.json()["id"], ADMIN)
    assert (report.status, report.json()["rows"], report.json()["failed"], report.json()["code"]) == (200, 2, 0, 0)
    answers = [orjson.loads(line) for line in Path(reply.json()["order"]["output"]).read_bytes().splitlines()]
    assert [row["sum"] for row in answers] == [3, 7]
    said = [line["text"] for line in get(served, f"/jobs/{reply.json()['id']}/logs", ADMIN).json()["lines"]]
    assert "2 rows are answered, 0 failed" in said[-1]


def test_a_job_over_files_that_fails_says_why(served: Served, folder: Path) -> None:
    job = submit(served, folder, input=str(folder / "data" / "nosuch.csv")).json()["id"]
    answer = result(served, f"/jobs/{job}", ADMIN)
    shown = get(served, f"/jobs/{job}", ADMIN).json()
    assert (answer.status, shown["state"]) == (500, "failed")
    assert "nosuch.csv" in shown["error"]
    assert answer.json()["error"] == shown["error"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"model": "nosuch"}, "unknown_model"),
        ({"version": "9"}, "unknown_version"),
        ({"input": "/etc/passwd"}, "place_not_listed"),
        ({"output": "/etc/cron.d/answers.csv"}, "place_not_listed"),
        ({"output": "answers.csv"}, "wrong_place"),
        ({"input": "s3://bucket/rows.csv"}, "place_not_listed"),
        ({"input": "ftp://host/rows.csv"}, "wrong_place"),
        ({"input": "/data/\0"}, "wrong_place"),
        ({"input": "/" + "a" * 5000}, "wrong_place"),
        ({"input": 7}, "wrong_job"),
        ({"batch_rows": 0}, "wrong_job"),
        ({"surprise": 1}, "wrong_job"),
        ({"model": ""}, "wrong_job"),
    ],
)
def test_a_job_over_files_that_may_not_be_is_refused(served: Served, folder: Path, more: dict[str, Any], code: str) -> None:
    answer = submit(served, folder, **more)
    assert 400 <= answer.status < 500
    assert answer.code == code


@pytest.mark.parametrize("way", ["{0}/../secret/rows.csv", "{0}/link/rows.csv", "{0}/link", "{0}/loop/rows.csv"])
def test_no_way_leads_out_of_the_listed_folders(served: Served, folder: Path, way: str) -> None:
    (folder / "secret").mkdir(exist_ok=True)
    (folder / "secret" / "rows.csv").write_text("x\n[1,2]\n")
    for name, target in (("link", folder / "secret"), ("loop", folder / "data" / "loop")):
        if not (folder / "data" / name).is_symlink():
            (folder / "data" / name).symlink_to(target)
    answer = submit(served, folder, input=way.format(folder / "data"))
    assert answer.code == "place_not_listed"
    told = answer.json()["error"]
    assert way.format(folder / "data") in told
    assert str(folder / "secret") not in told


def test_the_rows_that_failed_are_answered_once_more_by_a_job_of_their_own(served: Served, folder: Path) -> None:
    rows = folder / "data" / "some-bad.ndjson"
    rows.write_text('{"x":[1,2]}\n{"x":[-666,0]}\n{"x":"bad"}\n{"x":[3,4]}\n')
    job = submit(served, folder, input=str(rows)).json()
    report = result(served, "/jobs/" + job["id"], ADMIN).json()
    assert (report["rows"], report["failed"], report["code"]) == (2, 2, 3)
    rows.write_text('{"x":[1,2]}\n{"x":[5,6]}\n{"x":"bad"}\n{"x":[3,4]}\n')
    again = served.ask(post(f"/jobs/{job['id']}/retry", b"", ADMIN))
    assert again.status == 202
    output = Path(again.json()["order"]["output"])
    assert output.name == Path(job["order"]["output"]).stem + ".retry1.ndjson"
    report = result(served, "/jobs/" + again.json()["id"], ADMIN).json()
    assert (report["rows"], report["failed"]) == (1, 1)
    assert [orjson.loads(line) for line in output.read_bytes().splitlines()] == [{"row": 1, "y": [11, 13], "sum": 11}]


def test_a_key_makes_a_job_over_files_once(served: Served, folder: Path) -> None:
    output = str(folder / "data" / "once.ndjson")
    ids = {submit(served, folder, "idempotency-key: f1", output=output).json()["id"] for _ in range(3)}
    assert len(ids) == 1
    assert submit(served, folder, "idempotency-key: f1").code == "other_request"
