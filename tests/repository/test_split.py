"""Traffic, sticky and shadow in pipeline.toml: read strictly, and resolved to versions that are served."""

from pathlib import Path

import pytest

from foretell.errors import Setup
from foretell.repository import find_models
from foretell.repository.split import Split
from foretell.repository.versions import VersionsTable
from tests.backends import graphs

HEAD = '[versions]\npolicy = "all"\nlabels = {stable = 1, canary = 2}\n'


def table(tmp_path: Path, said: str) -> VersionsTable:
    for version in "123":
        (tmp_path / "m" / version).mkdir(parents=True)
        graphs.save(graphs.linear(), tmp_path / "m" / version / "model.onnx")
    (tmp_path / "m/pipeline.toml").write_text(HEAD + said)
    return find_models([tmp_path / "m"])[0].config.versions


def test_labels_and_versions_are_resolved(tmp_path: Path) -> None:
    said = 'traffic = {stable = 95, canary = 5}\nsticky = "X-User-Id"\nshadow = "3"\n'
    assert table(tmp_path, said).split(["1", "2", "3"]) == Split({"1": 95.0, "2": 5.0}, "x-user-id", "3")


def test_a_table_of_traffic_says_the_same(tmp_path: Path) -> None:
    assert table(tmp_path, "[versions.traffic]\n1 = 0.5\n3 = 0.1\n").split(["1", "2", "3"]) == Split({"1": 0.5, "3": 0.1})


def test_without_traffic_the_newest_that_is_no_shadow_answers(tmp_path: Path) -> None:
    assert table(tmp_path, 'shadow = "3"\n').split(["1", "2", "3"]) == Split({"2": 1.0}, "", "3")


def test_without_both_there_is_no_split(tmp_path: Path) -> None:
    assert table(tmp_path, "").split(["1", "2", "3"]) is None


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("traffic = {stable = 0, canary = 5}", "wrong_setting", ["'stable'", "weight 0", "above 0"]),
        ("traffic = {stable = -1}", "wrong_setting", ["weight -1"]),
        ("traffic = {stable = nan}", "wrong_setting", ["weight nan"]),
        ("traffic = {stable = inf}", "wrong_setting", ["weight inf"]),
        ('traffic = {stable = "95"}', "broken_pipeline", ["traffic"]),
        ("traffic = {beta = 5, stable = 95}", "wrong_setting", ["traffic names 'beta'", "use one of 1, 2, 3, stable, canary"]),
        ("traffic = {7 = 5}", "wrong_setting", ["traffic names '7'", "not served"]),
        ("traffic = {stable = 5, 1 = 5}", "wrong_setting", ["version 1 twice"]),
        ('shadow = "beta"', "wrong_setting", ["shadow names 'beta'"]),
        ("shadow = 3", "broken_pipeline", ["shadow"]),
        ('traffic = {stable = 1, canary = 1}\nshadow = "canary"', "wrong_setting", ["version 2 is the shadow", "not both"]),
        ('traffic = {stable = 1}\nsticky = "x-user-id"', "wrong_setting", ["sticky", "several versions"]),
        ('traffic = {stable = 1, canary = 1}\nsticky = "no header"', "wrong_setting", ["name of a header"]),
        ("traffik = {stable = 1}", "broken_pipeline", ["'traffik'", "traffic"]),
    ],
)
def test_what_cannot_be_fulfilled_is_refused_with_its_key(said: str, code: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(Setup) as caught:
        table(tmp_path, said + "\n")
    assert caught.value.code == code
    for word in [*words, "pipeline.toml"]:
        assert word in caught.value.message


def test_the_only_version_cannot_be_the_shadow() -> None:
    with pytest.raises(Setup, match="the only one that is served"):
        VersionsTable(shadow="1").split(["1"])


def test_a_worker_that_serves_fewer_versions_shares_between_those() -> None:
    whole = VersionsTable(
        policy="all", labels={"stable": 1, "canary": 2}, traffic={"stable": 95.0, "canary": 5.0}, sticky="x", shadow="3"
    )
    assert whole.restricted(["1", "3"]).split(["1", "3"]) == Split({"1": 95.0}, "x", "3")
    assert whole.restricted(["3"]).split(["3"]) is None
