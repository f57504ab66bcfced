"""Everything that is not hot: health, metadata, metrics and the page for people."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import foretell.demo
from foretell.errors import Setup
from foretell.modes.http.pages import example_curl
from foretell.pipeline import Pipeline
from foretell.settings import Settings
from foretell.tensors import Signature, TensorSpec
from foretell.testing import FakeBackend, InProcess
from tests.browser import CHROMIUM, Browser
from tests.serving import Served, serving

DEMO = Path(foretell.demo.__file__).parent / "models"


@pytest.fixture
def client() -> Iterator[InProcess]:
    with InProcess(Pipeline(FakeBackend())) as client:
        yield client


def test_health_is_three_answers(client: InProcess) -> None:
    for path, told in (
        ("health/live", {"live": True}),
        ("health/ready", {"ready": True}),
        ("models/m/ready", {"name": "m", "ready": True}),
    ):
        answer = client.request("GET", f"/v2/{path}")
        assert (answer.status, answer.json()) == (200, told)


def test_ready_is_false_until_everything_is_loaded(client: InProcess) -> None:
    client.service.catalog.complete = False
    assert client.request("GET", "/v2/health/ready").status == 503
    assert client.request("GET", "/v2/health/live").status == 200
    assert client.request("GET", "/v2/models/m/ready").status == 200


def test_a_model_that_is_not_ready_is_503_and_says_when_to_try_again(client: InProcess) -> None:
    engine = next(iter(client.service.catalog))
    engine.ready = False
    assert client.request("GET", "/v2/models/m/ready").status == 503
    answer = client.request("GET", "/v2/models/m")
    engine.ready = True
    assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "not_ready", "1")


def test_metadata_has_the_form_of_the_protocol(client: InProcess) -> None:
    for path in ("/v2/models/m", "/v2/models/m/versions/1"):
        assert client.request("GET", path).json() == {
            "name": "m",
            "versions": ["1"],
            "platform": "foretell_pipeline",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        }
    assert set(client.request("GET", "/v2").json()) == {"name", "version", "extensions"}
    assert client.request("GET", "/v2/models").json() == [{"name": "m", "version": "1", "ready": True}]


@pytest.mark.parametrize(
    "path", ["/v2/models/..%2f..%2fetc", "/v2/models/" + "z" * 5000, "/docs/../pages.py", "/docs/%2e%2e", "/docs/page.html"]
)
def test_what_is_not_there_is_404_in_a_short_sentence(path: str, client: InProcess) -> None:
    answer = client.request("GET", path)
    assert answer.status == 404
    assert len(answer.body) < 300


def test_metrics_are_prometheus_text(client: InProcess) -> None:
    client.predict({"x": [1, 2]})
    answer = client.request("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b'foretell_requests_total{model="m",outcome="ok",version="1"} 1.0' in answer.body


def test_the_page_loads_nothing_from_elsewhere_and_allows_nothing_inline(client: InProcess) -> None:
    answer = client.request("GET", "/docs")
    text = answer.body.decode()
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    for part in ("http://", "https://", "<style", " style=", " onclick", "javascript:"):
        assert part not in text.replace("http://localhost", ""), part
    for path in ("/docs/page.css", "/docs/page.js"):
        assert path in text
        assert client.request("GET", path).status == 200


def test_the_root_leads_to_the_page(client: InProcess) -> None:
    answer = client.request("GET", "/")
    assert (answer.status, answer.headers["location"]) == (307, "/docs")


class _Tags(HTMLParser):
    OPEN = frozenset({"meta", "link", "input", "br", "html", "!doctype"})

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.labels = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.OPEN:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.OPEN:
            assert self.stack.pop() == tag


def test_the_page_is_well_formed_and_escapes_what_it_shows() -> None:
    name = "<script>alert(1)</script>'&"
    spec = TensorSpec.parse(name, "FP32[2]")
    backend = FakeBackend(lambda arrays: {"y": arrays[name]}, Signature((spec,), (TensorSpec.parse("y", "FP32[2]"),)))
    with InProcess(Pipeline(backend)) as client:
        text = client.request("GET", "/docs", headers={"host": "localhost"}).body.decode()
    assert "<script>alert" not in text
    tags = _Tags()
    tags.feed(text)
    assert tags.stack == []


def test_the_page_of_a_server_without_models_says_so() -> None:
    with InProcess(Pipeline(FakeBackend()), settings=Settings()) as client:
        client.service.catalog._models.clear()
        assert "No model is ready yet" in client.request("GET", "/docs").body.decode()


def test_the_line_for_the_shell_is_a_request_that_works(lane_server: Served) -> None:
    page = lane_server.get("/docs").body.decode()
    assert "/predict/double" in page
    with InProcess(Pipeline(FakeBackend())) as client:
        line = example_curl(next(iter(client.service.catalog)), "http://localhost")
        row = json.loads(line.split("-d '")[1].split("'")[0])
        assert client.predict(row)["predictions"]


def test_an_input_name_that_json_would_escape_is_refused_at_load() -> None:
    spec = TensorSpec.parse('a"b', "FP32[2]")
    backend = FakeBackend(lambda arrays: {"y": arrays['a"b']}, Signature((spec,), (TensorSpec.parse("y", "FP32[2]"),)))
    client = InProcess(Pipeline(backend))
    with pytest.raises(Setup, match="rename it"):
        client.__enter__()
    client._runner.close()


TRY = """(async () => {
  const form = document.querySelector("form[data-url='/predict/%s']");
  form.querySelector("textarea").value = %s;
  form.querySelector("button").click();
  while (!form.querySelector(".note").textContent) await new Promise(requestAnimationFrame);
  return [form.querySelector(".note").textContent, form.querySelector("output").textContent];
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not tried in a browser")
def test_the_form_of_the_page_asks_the_model_in_a_browser(tmp_path: Path) -> None:
    with serving(tmp_path, models={}, paths=[DEMO]) as served, Browser(tmp_path / "profile") as browser:
        browser.open(f"http://127.0.0.1:{served.port}/docs")
        row = (DEMO.parent / "inputs" / "phishing.json").read_text()
        note, output = browser.evaluate(TRY % ("threat", json.dumps(row)))
        assert note.startswith("200 OK")
        assert json.loads(output)[0]["verdict"] == "phishing"
        browser.open(f"http://127.0.0.1:{served.port}/docs")
        note, output = browser.evaluate(TRY % ("threat", "'{'"))
        assert note.startswith("400 ")
        assert json.loads(output)["code"] == "invalid_json"
