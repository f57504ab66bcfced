"""Where jobs over files may read and write: what is listed, whatever the spelling, and nothing else."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.errors import Denied, Invalid, Setup
from foretell.jobs.places import Places


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A folder that is listed, beside one that is not."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "rows.csv").write_text("x\n1\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret.csv").write_text("x\n1\n")
    return tmp_path / "in"


@pytest.mark.parametrize("path", ["rows.csv", "new.csv", "deep", "deep/new.csv", "deep/*.csv", "year=*/month=[12]/*.parquet"])
def test_what_is_below_a_listed_folder_is_allowed(listed: Path, path: str) -> None:
    assert Places.parse(str(listed)).check(f"{listed}/{path}") == f"{listed}/{path}"


@pytest.mark.parametrize(
    "path",
    [
        "{0}/../other/secret.csv",
        "{0}/deep/../../other/secret.csv",
        "{0}/*/../../other/secret.csv",
        "{0}2/rows.csv",
        "{0}/..",
        "/etc/passwd",
        "/",
        "/*",
        "/proc/self/environ",
        "//etc/passwd",
    ],
)
def test_what_is_not_below_one_is_refused(listed: Path, path: str) -> None:
    with pytest.raises(Denied):
        Places.parse(str(listed)).check(path.format(listed))


@pytest.mark.parametrize(
    "path", ["", "rows.csv", "./rows.csv", "~/rows.csv", "file:///etc/passwd", "http://host/a.csv", "/a\0b", "/a\nb"]
)
def test_what_is_no_place_is_refused(listed: Path, path: str) -> None:
    with pytest.raises(Invalid):
        Places.parse(str(listed)).check(path)


def test_a_link_leads_nowhere_else(listed: Path) -> None:
    places = Places.parse(str(listed))
    (listed / "link").symlink_to(listed.parent / "other")
    (listed / "file.csv").symlink_to(listed.parent / "other" / "secret.csv")
    (listed / "loop").symlink_to(listed / "loop")
    for path in ("link/secret.csv", "file.csv", "link", "loop/a.csv", "link/*.csv"):
        with pytest.raises(Denied):
            places.check(f"{listed}/{path}")
    with pytest.raises(Denied):
        places.check_links(str(listed))


def test_a_link_inside_is_followed(listed: Path) -> None:
    places = Places.parse(str(listed))
    (listed / "same.csv").symlink_to(listed / "rows.csv")
    assert places.check(f"{listed}/same.csv") == f"{listed}/rows.csv"
    places.check_links(str(listed))


def test_a_listed_folder_may_be_a_link_itself(listed: Path) -> None:
    link = listed.parent / "data"
    link.symlink_to(listed)
    assert Places.parse(str(link)).check(f"{link}/rows.csv") == f"{listed}/rows.csv"


@pytest.mark.parametrize("url", ["s3://bucket/in/a.csv", "s3://bucket/in/", "s3://bucket/in", "s3://bucket/in/year=1/*.csv"])
def test_what_is_below_a_listed_prefix_is_allowed(url: str) -> None:
    assert Places.parse("s3://bucket/in").check(url) == url


@pytest.mark.parametrize(
    "url", ["s3://bucket/input/a.csv", "s3://bucket/", "s3://other/in/a.csv", "gs://bucket/in/a.csv", "S3://bucket/in/a"]
)
def test_what_is_not_below_a_prefix_is_refused(url: str) -> None:
    with pytest.raises((Denied, Invalid)):
        Places.parse("s3://bucket/in/").check(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/in/../a",
        "s3://bucket/in//a",
        "s3://bucket/in/./a",
        "s3://bucket/in/%2e%2e/a",
        "s3://u:p@bucket/in/a",
        "s3:///in",
    ],
)
def test_a_prefix_cannot_be_left_by_spelling(url: str) -> None:
    with pytest.raises(Invalid):
        Places.parse("s3://bucket/in/").check(url)


def test_without_any_nothing_is_allowed(listed: Path) -> None:
    for text in (f"{listed}/rows.csv", "s3://bucket/in/a.csv"):
        with pytest.raises(Denied, match=r"jobs\.paths"):
            Places().check(text)


def test_a_list_with_something_wrong_in_it_is_refused(listed: Path) -> None:
    for text in (f"{listed}/rows.csv", "ftp://host/", f"{listed},s3://"):
        with pytest.raises(Setup):
            Places.parse(text)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.sampled_from(["..", ".", "deep", "link", "rows.csv", "*", "", "a b", "é"]), max_size=6))
def test_no_spelling_leads_out(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp() / "spelling"
    (folder / "in" / "deep").mkdir(parents=True, exist_ok=True)
    if not (folder / "in" / "link").is_symlink():
        (folder / "in" / "link").symlink_to(folder)
    try:
        checked = Places.parse(str(folder / "in")).check("/".join([str(folder / "in"), *parts]))
    except (Denied, Invalid):
        return
    assert os.path.realpath(checked.partition("*")[0]).startswith(str(folder / "in"))


def test_a_pattern_reads_through_no_link_that_leads_out(listed: Path) -> None:
    places = Places.parse(str(listed))
    (listed / "deep" / "file.csv").symlink_to(listed.parent / "other" / "secret.csv")
    for pattern in ("deep/*.csv", "**/*.csv", "d?ep/file.csv"):
        with pytest.raises(Denied):
            places.check_links(places.check(f"{listed}/{pattern}"))


def test_a_pattern_may_match_a_link_that_stays_inside(listed: Path) -> None:
    (listed / "deep" / "same.csv").symlink_to(listed / "rows.csv")
    places = Places.parse(str(listed))
    places.check_links(places.check(f"{listed}/deep/*.csv"))


@pytest.mark.parametrize("name", ["*w", "a?", "[x"])
def test_a_link_whose_name_looks_like_a_pattern_is_resolved(listed: Path, name: str) -> None:
    places = Places.parse(str(listed))
    (listed / name).symlink_to(listed.parent / "other")
    for check in (places.check, places.check_output):
        with pytest.raises(Denied):
            check(f"{listed}/{name}")
    with pytest.raises(Denied):
        places.check_output(f"{listed}/{name}/answers.csv")


def test_a_link_below_the_folder_of_answers_is_refused(listed: Path) -> None:
    (listed / "answers").mkdir()
    (listed / "answers" / "a=1").symlink_to(listed.parent / "other")
    with pytest.raises(Denied):
        Places.parse(str(listed)).check_links(f"{listed}/answers")


def test_a_slash_at_the_end_of_an_output_still_says_that_it_is_a_folder(listed: Path) -> None:
    assert Places.parse(str(listed)).check_output(f"{listed}/answers/") == f"{listed}/answers/"
