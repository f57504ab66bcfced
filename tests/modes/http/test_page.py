"""The page for people: well formed, from nowhere else, and whatever it offers works."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import foretell.demo
from foretell.pipeline import Pipeline
from foretell.settings import Settings
from foretell.tensors import Signature, TensorSpec
from foretell.testing import FakeBackend, InProcess
from tests.browser import CHROMIUM, Browser
from tests.serving import MODELS, Served, post, serving

DEMO = Path(foretell.demo.__file__).parent / "models"
LARGE = """
@foretell.model(inputs={"pixels": "FP32[3, 40, 40]"}, outputs={"mean": "FP32"})
def model(arrays):
    return {"mean": arrays["pixels"].mean(axis=(1, 2, 3))}
"""


@pytest.fixture
def client() -> Iterator[InProcess]:
    with InProcess(Pipeline(FakeBackend())) as client:
        yield client


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = {"text": MODELS["text"], "large": LARGE}
    with serving(tmp_path_factory.mktemp("page"), models=models, paths=[DEMO]) as served:
        yield served


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
    OPEN = frozenset({"meta", "link", "input", "br", "html", "!doctype", "img", "li"})

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


class _Lines(HTMLParser):
    """What stands in the page's ``pre``s."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inside = False
        self.lines: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag == "pre"
        if self.inside:
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.lines[-1] += data


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: the lines of the page are not run")
def test_every_line_for_the_shell_works_as_it_stands(served: Served) -> None:
    page = served.ask(f"GET /docs HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\n\r\n".encode()).body.decode()
    lines = [line for line in _Lines(page).lines if "KEY" not in line and "/jobs/ID" not in line]  # for you to fill in
    assert len(lines) > 30
    for line in lines:
        checked = "curl -s --fail-with-body ".join(line.rsplit("curl -s ", 1))
        run = subprocess.run(["/bin/sh", "-c", checked], capture_output=True, timeout=20)
        assert run.returncode == 0, (line, run.stdout[:300], run.stderr)


TRY = """(async () => {
  const form = document.querySelector("form[data-url='/predict/%s']");
  const typed = form.querySelector("textarea");
  if (typed) typed.value = %s;
  form.querySelector("button").click();
  while (!form.querySelector(".note").textContent) await new Promise(requestAnimationFrame);
  return [form.querySelector(".note").textContent, form.querySelector("output").textContent];
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not tried in a browser")
def test_the_forms_of_the_page_ask_the_models_in_a_browser(served: Served, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(f"http://127.0.0.1:{served.port}/docs")
        row = (DEMO.parent / "inputs" / "phishing.json").read_text()
        note, output = browser.evaluate(TRY % ("threat", json.dumps(row)))
        assert note.startswith("200 OK")
        assert json.loads(output)[0]["verdict"] == "phishing"
        note, output = browser.evaluate(TRY % ("text", "'déjà vu'"))
        assert json.loads(output) == [{"back": "déjà vu"}]
        note, output = browser.evaluate(TRY % ("large", "''"))
        assert json.loads(output) == [{"mean": 0}]
        note, output = browser.evaluate(TRY % ("digits", "null"))
        assert json.loads(output)[0]["label"][0] == "0"
        browser.open(f"http://127.0.0.1:{served.port}/docs")
        note, output = browser.evaluate(TRY % ("threat", "'{'"))
        assert note.startswith("400 ")
        assert json.loads(output)["code"] == "invalid_json"


CHOOSE = """(async () => {
  const form = document.querySelector("form[data-url='/predict/digits']");
  const bytes = Uint8Array.from(atob(%s), (sign) => sign.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], "seven.png", { type: "image/png" }));
  const picker = form.querySelector("input[type=file]");
  picker.files = files.files;
  picker.dispatchEvent(new Event("change"));
  while (!form.querySelector("canvas")) await new Promise(requestAnimationFrame);
  form.querySelector("button").click();
  while (!form.querySelector(".note").textContent) await new Promise(requestAnimationFrame);
  return form.querySelector("output").textContent;
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not tried in a browser")
def test_a_picture_that_is_chosen_is_shown_and_asked(served: Served, tmp_path: Path) -> None:
    picture = base64.b64encode((DEMO.parent / "inputs" / "seven-28px-grey.png").read_bytes()).decode()
    with Browser(tmp_path / "profile") as browser:
        browser.open(f"http://127.0.0.1:{served.port}/docs")
        output = browser.evaluate(CHOOSE % json.dumps(picture))
    assert json.loads(output)[0]["label"][0] == "7"


@pytest.fixture(scope="module")
def versioned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model with two versions and labels, another version that cannot be loaded, and a model that was unloaded."""
    folder = tmp_path_factory.mktemp("versions")
    repository = folder / "models"
    shutil.copytree(DEMO, repository)
    digits = repository / "digits"
    shutil.copytree(digits / "1", digits / "2")
    shutil.copytree(repository / "threat", repository / "spare")
    settings = digits / "pipeline.toml"
    settings.write_text('[versions]\npolicy = "all"\nlabels = { stable = 1, canary = 2 }\n' + settings.read_text())
    (folder / "foretell.toml").write_text('[admin]\nkey = "k"\n')
    with serving(folder, "--config", str(folder / "foretell.toml"), models={}, paths=[repository]) as served:
        key = "authorization: Bearer k"
        assert served.ask(post("/v2/repository/models/spare/unload", "", key)).status == 200
        (digits / "3").mkdir()
        (digits / "3" / "model.onnx").write_bytes(b"junk")
        assert served.ask(post("/v2/repository/models/digits/load", "", key)).status >= 400
        yield served


PICK = """(async () => {
  const card = document.querySelector("section#digits");
  const chips = [...card.querySelectorAll(".versions label")].map((chip) => chip.innerText.replace(/\\s+/g, " ").trim());
  const dead = [...card.querySelectorAll(".versions input:disabled")].map((field) => field.value);
  card.querySelector(".versions input[value$='/versions/1']").click();
  card.querySelector("form button").click();
  while (!card.querySelector(".note").textContent) await new Promise(requestAnimationFrame);
  const asked = performance.getEntriesByType("resource").map((entry) => new URL(entry.name).pathname);
  const away = document.querySelector("section#spare").innerText.replace(/\\s+/g, " ");
  return [chips, dead, card.querySelector(".note").textContent, asked.includes("/predict/digits/versions/1"), away];
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is not tried in a browser")
def test_every_version_is_shown_with_its_labels_and_state_and_can_be_asked(versioned: Served, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(f"http://127.0.0.1:{versioned.port}/docs")
        chips, dead, note, asked, away = browser.evaluate(PICK)
    assert chips == ["no version named is answered by 2", "3 unavailable", "2 canary", "1 stable"]
    assert dead == ["/predict/digits/versions/3"]
    assert note.startswith("200 OK")
    assert asked
    assert "not served now" in away
    assert "unavailable unloaded" in away


def test_a_model_with_one_version_has_no_picker(client: InProcess) -> None:
    assert "class='versions'" not in client.request("GET", "/docs").body.decode()
