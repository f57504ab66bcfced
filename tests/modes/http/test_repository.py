"""The repository's routes: what anybody may see, and what only the holder of the key may do."""

import pytest

from foretell.pipeline import Pipeline
from foretell.settings import AdminSettings, Settings
from foretell.testing import FakeBackend, InProcess, Response

KEY = "ключ of the operator"
BEARER = f"Bearer {KEY}".encode().decode("latin-1")
VERBS = ["load", "unload"]


def ask(path: str, body: bytes = b"", key: str = KEY, **headers: str) -> Response:
    settings = Settings(admin=AdminSettings(key=key))
    with InProcess(Pipeline(FakeBackend()), settings=settings) as client:
        return client.request("POST", f"/v2/repository/{path}", body, headers)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready":true}', b'{"ready":false}'])
def test_the_index_is_open_to_all(body: bytes) -> None:
    answer = ask("index", body, key="")
    assert (answer.status, answer.json()) == (200, [])  # what is added in tests came from no repository


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"ready":1}', b"[" * 10_000])
def test_an_index_request_that_does_not_fit_is_refused(body: bytes) -> None:
    answer = ask("index", body)
    assert (answer.status, answer.json()["code"]) == (400, "invalid_json")


def test_a_large_body_is_refused() -> None:
    assert ask("index", b" " * 100_000).status == 413


@pytest.mark.parametrize("verb", VERBS)
def test_without_a_key_on_the_server_nobody_may_administer(verb: str) -> None:
    answer = ask(f"models/m/{verb}", key="", authorization="Bearer ")
    assert (answer.status, answer.json()["code"]) == (403, "admin_off")
    assert "FORETELL_ADMIN_KEY" in answer.json()["error"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic key", "Bearer " + "k" * 9999])
def test_a_wrong_key_or_none_is_401(verb: str, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    answer = ask(f"models/m/{verb}", b"", **headers)
    assert (answer.status, answer.json()["code"]) == (401, "wrong_key")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_of_another_site_may_not_even_with_the_key(verb: str) -> None:
    answer = ask(f"models/m/{verb}", authorization="Bearer k", key="k", origin="https://evil.example")
    assert (answer.status, answer.json()["code"]) == (403, "foreign_origin")


@pytest.mark.parametrize("origin", ["null", "http://localhost.evil.example", "https://[", "http://localhost:99", ""])
def test_an_odd_origin_is_foreign(origin: str) -> None:
    assert ask("models/m/load", authorization="Bearer k", key="k", origin=origin).json()["code"] == "foreign_origin"


@pytest.mark.parametrize("verb", VERBS)
def test_with_the_key_a_model_that_is_not_there_is_404(verb: str) -> None:
    answer = ask(f"models/z/{verb}", b"{}", key="k", authorization="bearer k", origin="http://localhost")
    assert (answer.status, answer.json()["code"]) == (404, "unknown_model")


def test_a_key_may_be_any_text() -> None:
    assert ask("models/z/load", authorization=BEARER).json()["code"] == "unknown_model"


@pytest.mark.parametrize("parameters", [b'{"config":"{}"}', b'{"file:1/model.onnx":"AAAA"}', b"[1]", b'"a"'])
def test_a_model_is_loaded_as_its_folder_says(parameters: bytes) -> None:
    answer = ask("models/m/load", b'{"parameters":%b}' % parameters, key="k", authorization="Bearer k")
    assert (answer.status, answer.json()["code"]) == (400, "unknown_parameter")


def test_the_verb_is_post() -> None:
    with InProcess(Pipeline(FakeBackend())) as client:
        assert client.request("GET", "/v2/repository/models/m/load").status == 405
