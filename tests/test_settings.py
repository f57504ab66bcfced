"""Settings: one tree, four sources, each value checked wherever it comes from."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import Setup
from foretell.settings import EngineSettings, Key, Settings, load_settings, override, walk, write_toml

KEYS = {key.name: key for key in walk()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "foretell.toml"


def refusal(file: Path | None = None, env: dict[str, str] | None = None, flags: dict[str, object] | None = None) -> Setup:
    with pytest.raises(Setup) as caught:
        load_settings(file, env, flags)
    return caught.value


def test_without_sources_every_value_is_its_default() -> None:
    settings, origins = load_settings()
    assert settings == Settings()
    assert set(origins) == set(KEYS)
    assert set(origins.values()) == {"default"}


def test_every_default_is_allowed_by_its_own_limits() -> None:
    for key in KEYS.values():
        assert key.read(key.default, "default") == key.default


def test_file_beats_default(file: Path) -> None:
    file.write_text('host = "::1"\n[http]\nport = 81\n')
    settings, origins = load_settings(file)
    assert (settings.host, settings.http.port) == ("::1", 81)
    assert origins["http.port"] == str(file)


def test_environment_beats_file(file: Path) -> None:
    file.write_text("[http]\nport = 81\n")
    settings, origins = load_settings(file, {"FORETELL_HTTP_PORT": "82", "HOME": "/"})
    assert settings.http.port == 82
    assert origins["http.port"] == "FORETELL_HTTP_PORT"


def test_flag_beats_environment() -> None:
    settings, origins = load_settings(None, {"FORETELL_HTTP_PORT": "82"}, {"http.port": "83", "host": None})
    assert settings.http.port == 83
    assert origins["http.port"] == "--http-port"
    assert origins["host"] == "default"


def test_what_is_printed_is_a_file_that_says_the_same(file: Path) -> None:
    settings, origins = load_settings(
        None, {"FORETELL_HOST": 'a"b\\c é'}, {"engine.max_wait_s": "1e-05", "http.fast_lane": False}
    )
    printed = write_toml(settings, origins)
    assert "# FORETELL_HOST" in printed
    assert "# --http-fast-lane" in printed
    file.write_text(printed, encoding="utf-8")
    assert load_settings(file)[0] == settings


def test_a_wrong_value_is_refused_even_if_a_stronger_source_replaces_it() -> None:
    assert refusal(env={"FORETELL_HTTP_PORT": "http"}, flags={"http.port": "80"}).details["origin"] == "FORETELL_HTTP_PORT"


@pytest.mark.parametrize("text", ["true", "1", "TRUE"])
def test_booleans_are_read_from_text(text: str) -> None:
    assert load_settings(None, {"FORETELL_HTTP_FAST_LANE": text})[0].http.fast_lane is True


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("http.port", "99999"),
        ("http.port", "-1"),
        ("http.port", "80.5"),
        ("http.port", "1_0"),
        ("http.port", ""),
        ("http.port", "9" * 400),
        ("engine.max_wait_s", "nan"),
        ("engine.max_wait_s", "inf"),
        ("engine.max_wait_s", "1e400"),
        ("http.fast_lane", "maybe"),
        ("log.level", "loud"),
        ("host", " "),
    ],
)
def test_a_value_out_of_type_or_limits_is_refused_with_expected_and_got(key: str, value: str) -> None:
    error = refusal(flags={key: value})
    assert error.code == "wrong_setting"
    assert key in error.message
    assert KEYS[key].flag in error.message
    assert KEYS[key].expected in error.message
    assert repr(value)[:80] in error.message


@pytest.mark.parametrize("value", ["80.0", "true", '"80"', "[80]", "{ a = 1 }", "1979-05-27"])
def test_a_file_says_a_number_as_a_number(file: Path, value: str) -> None:
    file.write_text(f"[http]\nport = {value}\n")
    assert refusal(file).code == "wrong_setting"


@pytest.mark.parametrize(
    ("text", "near"),
    [("[http]\nprot = 1", "http.port"), ("hots = 'x'", "host"), ("[htpp]\nport = 1", "http.port"), ("[engin]", None)],
)
def test_an_unknown_key_in_a_file_is_refused_with_a_near_one(file: Path, text: str, near: str | None) -> None:
    file.write_text(text)
    error = refusal(file)
    assert error.code == "unknown_setting"
    assert str(file) in error.message
    assert (f"did you mean {near!r}?" if near else "use one of") in error.message


def test_an_unknown_variable_is_refused_with_a_near_one() -> None:
    error = refusal(env={"FORETELL_HTTP_PRT": "1"})
    assert error.code == "unknown_setting"
    assert "did you mean 'FORETELL_HTTP_PORT'?" in error.message


@pytest.mark.parametrize(
    ("env", "near"),
    [("FORETELL_PORT", "'FORETELL_HTTP_PORT' or 'FORETELL_GRPC_PORT'"), ("FORETELL_ADMIN", "'FORETELL_ADMIN_KEY'")],
)
def test_a_variable_that_lacks_a_word_is_told_the_whole_name(env: str, near: str) -> None:
    assert f"did you mean {near}?" in refusal(env={env: "1"}).message


def test_what_kubernetes_puts_beside_a_service_named_foretell_is_no_setting() -> None:
    linked = {
        "FORETELL_PORT": "tcp://10.0.0.1:80",
        "FORETELL_PORT_80_TCP": "tcp://10.0.0.1:80",
        "FORETELL_PORT_80_TCP_ADDR": "10.0.0.1",
        "FORETELL_SERVICE_HOST": "10.0.0.1",
        "FORETELL_SERVICE_PORT": "80",
        "FORETELL_SERVICE_PORT_HTTP": "80",
        "FORETELL_HTTP_PORT": "tcp://10.0.0.1:80",
    }
    assert load_settings(None, linked)[0] == Settings()


def test_a_section_given_a_value_is_refused(file: Path) -> None:
    file.write_text("http = 80")
    assert "[http]" in refusal(file).message


@pytest.mark.parametrize("content", [b"host = ", b"\xff\xfe", b"[a]\n[a]\n"])
def test_a_file_that_is_not_toml_is_refused_by_name(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    error = refusal(file)
    assert error.code == "wrong_setting"
    assert str(file) in error.message


def test_a_file_that_is_not_there_is_refused_by_name(file: Path) -> None:
    assert refusal(file).code == "missing_file"
    assert str(file) in refusal(file).message
    assert refusal(file.parent).code == "missing_file"


def test_override_replaces_some_values_of_one_section() -> None:
    assert override(EngineSettings(threads=2), {"max_batch_rows": 8}, "pipeline.toml [engine]") == EngineSettings(
        threads=2, max_batch_rows=8
    )


@pytest.mark.parametrize(
    ("changes", "code"), [({"max_batch_row": 8}, "unknown_setting"), ({"max_batch_rows": 0}, "wrong_setting")]
)
def test_override_checks_like_every_other_source(changes: dict[str, object], code: str) -> None:
    with pytest.raises(Setup) as caught:
        override(EngineSettings(), changes, "models/a/pipeline.toml [engine]")
    assert caught.value.code == code
    assert "models/a/pipeline.toml [engine]" in caught.value.message
    assert "max_batch_rows" in caught.value.message


def test_names_of_one_setting_follow_from_its_key() -> None:
    key = KEYS["http.max_request_bytes"]
    assert (key.env, key.flag) == ("FORETELL_HTTP_MAX_REQUEST_BYTES", "--http-max-request-bytes")
    assert (KEYS["host"].env, KEYS["host"].flag) == ("FORETELL_HOST", "--host")
    assert KEYS["predict.batch_rows"].flag == "--batch-rows"


def test_no_two_settings_share_a_variable_or_a_flag() -> None:
    assert len({key.env for key in KEYS.values()}) == len(KEYS)
    assert len({(key.verb, key.flag) for key in KEYS.values()}) == len(KEYS)


def test_every_setting_says_what_it_means() -> None:
    for key in KEYS.values():
        assert key.help.endswith("."), key.name


def _allowed(key: Key) -> st.SearchStrategy[object]:
    least, most = key.least or 0, key.most or 2**40
    if key.choices:
        return st.sampled_from(key.choices)
    numbers = {int: st.integers(int(least), int(most)), float: st.floats(least, most), bool: st.booleans()}
    return numbers.get(key.type, st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1))


@given(st.data())
def test_an_allowed_value_arrives_the_same_by_every_way(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(list(KEYS.values())))
    value = data.draw(_allowed(key))
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    expected = key.read(value, "here")
    ways = [load_settings(None, {key.env: text})]
    if not key.secret:
        ways.append(load_settings(None, {}, {key.name: text}))
    for settings, origins in ways:
        part = getattr(settings, key.section) if key.section else settings
        assert getattr(part, key.name.rpartition(".")[2]) == expected
        assert [name for name, origin in origins.items() if origin != "default"] == [key.name]


def test_a_secret_is_never_shown(file: Path) -> None:
    settings, origins = load_settings(None, {"FORETELL_ADMIN_KEY": "hunter2"})
    assert settings.admin.key == "hunter2"
    assert "hunter2" not in repr(settings)
    printed = write_toml(settings, origins)
    assert "# key is set, and not shown: FORETELL_ADMIN_KEY" in printed
    assert "hunter2" not in printed
    file.write_text(printed)
    assert load_settings(file)[0].admin.key == ""


def test_a_secret_is_read_from_a_file_and_refused_without_being_repeated(file: Path) -> None:
    file.write_text('[admin]\nkey = "hunter2"\n')
    assert load_settings(file)[0].admin.key == "hunter2"
    file.write_text("[admin]\nkey = [234567]\n")
    assert "234567" not in refusal(file).message


def test_a_secret_is_no_flag() -> None:
    assert refusal(flags={"admin.key": "hunter2"}).code == "unknown_setting"
