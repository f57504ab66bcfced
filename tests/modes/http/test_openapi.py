"""The OpenAPI document: every route is in it, every example in it works, and every status in it occurs."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

import foretell.demo
from foretell import steps
from foretell.assemble import Service
from foretell.codes import CODES
from foretell.errors import Broken, Busy, ForetellError, Late, Unavailable
from foretell.modes.http.openapi import CONVERTER, operations_of, plain
from foretell.modes.http.operations import OPERATIONS
from foretell.modes.http.schemas import statuses
from foretell.pipeline import Pipeline
from foretell.settings import AdminSettings, HttpSettings, Settings
from foretell.tensors import Arrays, Signature, TensorSpec
from foretell.testing import FakeBackend, InProcess, Response
from tests.modes.http.documented import Call, calls, example_calls, send
from tests.serving import MODELS, Served, serving

DEMO = Path(foretell.demo.__file__).parent / "models"
KEY = "k" * 32
SIGNATURE = Signature((TensorSpec.parse("x", "FP32[2]"),), (TensorSpec.parse("y", "FP32[2]"), TensorSpec.parse("sum", "FP32")))
LIMIT = 100_000
TROUBLES: dict[int, ForetellError] = {
    429: Busy("queue_full", "full", retry_after_s=1),
    500: Broken("model_failed", "broken"),
    503: Unavailable("not_ready", "closing", retry_after_s=1),
    504: Late("deadline_passed", "late"),
}
MIXED = """
@foretell.model(inputs={"n": "INT64", "yes": "BOOL", "half": "FP16", "small": "UINT8[2, 2]", "words": "BYTES[?]"},
                outputs={"n": "INT64", "half": "FP16", "words": "BYTES[?]"})
def model(arrays):
    return {name: arrays[name] for name in ("n", "half", "words")}
"""
LARGE = """
@foretell.model(inputs={"pixels": "FP32[3, 40, 40]"}, outputs={"mean": "FP32"})
def model(arrays):
    return {"mean": arrays["pixels"].mean(axis=(1, 2, 3))}
"""


class Troubled(FakeBackend):
    """A model that raises what it is told to."""

    def __init__(self) -> None:
        super().__init__(self._answer, SIGNATURE)
        self.trouble: ForetellError | None = None

    def _answer(self, arrays: Arrays) -> Arrays:
        if self.trouble is not None:
            raise self.trouble
        return {"y": arrays["x"], "sum": arrays["x"].sum(axis=1)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real server with models of all kinds, and with a key."""
    models = {"double": MODELS["double"], "text": MODELS["text"], "mixed": MIXED, "large": LARGE}
    folder, environ = tmp_path_factory.mktemp("openapi"), {"FORETELL_ADMIN_KEY": KEY}
    with serving(folder, models=models, paths=[DEMO], environ=environ) as served:
        yield served


def document(served: Served) -> Any:
    return served.get("/openapi.json").json()


def test_every_route_is_described(served: Served) -> None:
    routes = Service(Settings()).http.pages.router.routes
    paths = document(served)["paths"]
    for route in routes:
        for method in route.methods - {"HEAD"}:  # type: ignore[attr-defined]  # all of them are plain routes
            path = CONVERTER.sub("}", route.path)  # type: ignore[attr-defined]
            assert method.lower() in paths[path], f"{method} {path} is not described: add it to operations.py"


def test_every_door_is_described() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        paths = client.request("GET", "/openapi.json").json()["paths"]
        posts = [re.sub(r"{\w+}", r"[^/:]+", path) for path, methods in paths.items() if "post" in methods]
        for door in (*client.service.http.doors, *client.service.http.streams):
            assert any(re.fullmatch(path, door.decode()) for path in posts), door


def test_nothing_is_described_that_is_not_there_and_vertex_routes_are_where_vertex_says() -> None:
    service = Service(Settings(), {"AIP_HEALTH_ROUTE": "/alive", "AIP_PREDICT_ROUTE": "/ask"})
    found = operations_of(service.http.pages.router.routes)  # type: ignore[arg-type]
    assert {f"{each.method} {each.path}" for _, _, each in found} == set(OPERATIONS)
    assert {path for path, _, each in found if "Vertex" in each.summary} == {"/alive", "/ask"}
    assert all(each.path == plain(path) for path, _, each in found if path not in ("/alive", "/ask"))


def test_every_example_is_answered(served: Served) -> None:
    tried = [call for call in example_calls(document(served), served) if not call.operation.get("security")]
    assert len(tried) > 50
    for call in tried:
        answer = send(served, call)
        assert str(answer.status) in call.operation["responses"], call
        assert answer.status in (200, 307), (call, answer.body[:300])
    kinds = {kind.decode() for call in tried for name, kind in call.headers if name == b"content-type"}
    assert kinds >= {"application/json", "application/x-ndjson", "text/csv", "text/plain", "image/png"}


def test_the_examples_of_administration_work_with_the_key(served: Served) -> None:
    tried = [call for call in example_calls(document(served), served) if call.operation.get("security")]
    for verb in ("unload", "load"):
        for call in tried:
            if call.path.endswith(f"/{verb}"):
                assert send(served, call.with_header(b"authorization", b"Bearer " + KEY.encode())).status == 200


def test_a_long_example_has_an_address_that_is_a_body(served: Served) -> None:
    content = document(served)["paths"]["/predict/large"]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"]["one row"] == {"externalValue": "/docs/examples/large/row"}
    assert list(served.get("/docs/examples/large/row").json()) == ["pixels"]
    assert len(served.get("/openapi.json").body) < 200_000


def test_every_status_that_is_described_occurs() -> None:
    model = Troubled()
    settings = Settings(http=HttpSettings(max_request_bytes=LIMIT), admin=AdminSettings(key=KEY))
    with InProcess(Pipeline(model), settings=settings) as client:
        described = client.request("GET", "/openapi.json").json()
        for call in calls(described):
            if call.path.startswith("/jobs"):
                continue  # these want a place for jobs: tests/modes/http/test_jobs.py
            for status in map(int, call.operation["responses"]):
                if status in (202, 408, 431) or (call.operation.get("security") and status in (200, 429, 500)):
                    continue  # the first are for a real server; the others want a repository, and are tried there
                answer = _provoke(client, model, call, status)
                assert answer is None or answer.status == status, (call.verb, call.path, status, answer.body)


def _provoke(client: InProcess, model: Troubled, call: Call, status: int) -> Response | None:
    """An answer that ought to have that status; None where the document's example cannot be sent."""
    if "{" in call.path:
        return None
    headers = {name.decode(): value.decode() for name, value in call.headers}
    if call.operation.get("security") and status not in (401, 403):
        headers["authorization"] = f"Bearer {KEY}"
    path, body = call.path, call.body
    if status == 403:
        headers["host"] = "example.com"
    elif status == 404:
        path = re.sub("/(m|page.css)(?=[/:]|$)", "/nosuch", path)
    elif status == 400:
        body = b"{"
    elif status == 413:
        body = b" " * (LIMIT + 1)
    elif status == 415:
        headers["content-type"] = "application/x-www-form-urlencoded"
    if status == 404 and path == call.path:
        return None  # it names no model: tried by hand below
    return _with_trouble(client, model, status, lambda: client.request(call.verb, path, body, headers))


def _with_trouble(client: InProcess, model: Troubled, status: int, ask: Any) -> Response:
    (engine,) = client.service.catalog
    model.trouble = TROUBLES.get(status)
    answer: Response = ask()
    if status == 503 and answer.status == 200:  # a page that does not ask the model
        engine.ready = False
        answer = ask()
        engine.ready = True
    model.trouble = None
    return answer


def test_large_headers_are_refused_on_every_route(served: Served) -> None:
    for call in list(example_calls(document(served), served))[::7]:
        assert "431" in call.operation["responses"]
        assert send(served, call.with_header(b"h", b"v" * 70_000)).status == 431


def test_the_times_of_a_request_are_told_where_the_document_says_so(served: Served) -> None:
    timed = set()
    for call in example_calls(document(served), served):
        names = [parameter["name"] for parameter in call.operation["parameters"]]
        assert ("X-Server-Timing" in names) is ("headers" in call.operation["responses"].get("200", {})), call.path
        if "X-Server-Timing" in names:
            answer = send(served, call.with_header(b"x-server-timing", b"1"))
            assert answer.header(b"server-timing"), call.path
            timed.add(call.path.split("/")[1])
    assert timed >= {"predict", "predictions", "v1", "v2"}


def test_a_route_for_the_only_model_is_404_among_several(served: Served) -> None:
    assert "404" in document(served)["paths"]["/invocations"]["post"]["responses"]
    assert served.ask(b"POST /invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}").status == 404


def test_the_codes_of_a_status_are_those_of_the_table_of_errors(served: Served) -> None:
    schemas = document(served)["components"]["schemas"]
    assert "queue_full" in schemas["Error429"]["properties"]["code"]["enum"]
    told = {code for codes in statuses().values() for code in codes}
    assert told == set(CODES) - {"cancelled"}


def test_the_document_is_made_once_for_each_state_of_the_catalog() -> None:
    with InProcess(Pipeline(backend := FakeBackend())) as client:
        first = client.request("GET", "/openapi.json")
        asked = len(backend.batches)
        assert client.request("GET", "/openapi.json").body == first.body
        client.request("GET", "/docs")
        assert len(backend.batches) == asked
        engine = client.service.catalog.remove("m", "1")
        assert "/predict/m" not in client.request("GET", "/openapi.json").json()["paths"]
        client.service.catalog.add(engine)
        assert client.request("GET", "/openapi.json").json() == first.json()


def test_looking_for_an_example_is_not_counted_as_a_request() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        client.request("GET", "/openapi.json")
        assert b'foretell_requests_total{model="m"' not in client.request("GET", "/metrics").body


@pytest.mark.parametrize(
    ("checks", "row"),
    [
        ([steps.check.range(low=7, high=9)], {"x": [7, 7]}),
        ([steps.check.allowed([3.0, 4.0])], {"x": [3, 3]}),
        ([steps.check.range(high=-2)], {"x": [-2, -2]}),
    ],
)
def test_an_example_passes_the_checks_of_its_pipeline(checks: list[Any], row: dict[str, Any]) -> None:
    with InProcess(Pipeline(FakeBackend(), preprocess=checks)) as client:
        assert client.request("GET", "/docs/examples/m/row").json() == row


def test_a_model_that_answers_no_made_up_row_has_no_example_and_is_served_all_the_same() -> None:
    model = Troubled()
    with InProcess(Pipeline(model)) as client:
        model.trouble = Broken("model_failed", "always")
        described = client.request("GET", "/openapi.json").json()
        assert "examples" not in described["paths"]["/predict/m"]["post"]["requestBody"]["content"]["application/json"]
        assert client.request("GET", "/docs/examples/m/row").status == 404
        assert client.request("GET", "/docs").status == 200


def test_a_server_without_models_has_a_document() -> None:
    service = Service(Settings())
    with InProcess(Pipeline(FakeBackend())) as client:
        client.service.catalog.remove("m", "1")
        described = client.request("GET", "/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    assert "/v2/models/{model}/infer" in described["paths"]
    assert service.http.pages.docs is not None


def test_references_lead_somewhere(served: Served) -> None:
    text = served.get("/openapi.json").body
    described = orjson.loads(text)
    for section, name in set(re.findall(rb'"#/components/(\w+)/(\w+)"', text)):
        assert name.decode() in described["components"][section.decode()]
    names = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_the_label_of_a_version_is_an_example_of_its_paths() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        client.service.catalog.label("m", {"stable": "1"})
        paths = client.request("GET", "/openapi.json").json()["paths"]
        (model, label) = paths["/v2/models/{model}/labels/{label}"]["get"]["parameters"]
        assert (model["example"], label["example"], label["schema"]["enum"]) == ("m", "stable", ["stable"])


def test_the_reference_names_every_route_and_status(served: Served) -> None:
    text = (Path(__file__).parents[3] / "docs" / "http.md").read_text(encoding="utf-8")
    described = document(served)
    for path, methods in described["paths"].items():
        if path != plain(path) or "x-model" in next(iter(methods.values())) or path.startswith("/docs/") or path == "/":
            continue
        assert path in text, f"docs/http.md does not name {path}"
    for status in {status for status, _ in statuses().items()}:
        assert f"| {status} |" in text, f"docs/http.md does not name {status}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: the lines of the reference are not run")
def test_the_lines_of_the_reference_work(served: Served) -> None:
    root = Path(__file__).parents[3]
    text = (root / "docs" / "http.md").read_text(encoding="utf-8")
    lines = [block for block in re.findall("^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if "curl" in block]
    assert len(lines) == 2
    for line in lines:
        script = line.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}").replace("curl -s", "curl -s --fail-with-body")
        run = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=20, cwd=root)
        assert run.returncode == 0, run.stdout
        assert b'"7"' in run.stdout
