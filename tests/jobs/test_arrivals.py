"""Files that come into a bucket: the same as into a folder. Local folders are tested with the planner."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from foretell.errors import Unavailable
from foretell.jobs.arrivals import Arrivals
from foretell.storage import create, find_place
from tests.stores import point_at, s3


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("obstore")
    with s3(tmp_path / "s3.log") as (address, _):
        point_at(address, monkeypatch)
        yield "s3://lake/in"


def put(url: str, text: str) -> None:
    with create(find_place(url)) as stream:
        stream.write(text.encode())


def test_objects_that_come_into_a_bucket_are_given_once_they_stay_the_same(bucket: str) -> None:
    arrivals = Arrivals(find_place(bucket), "*.csv")
    put(f"{bucket}/2026/a.csv", "x\n1\n")
    put(f"{bucket}/b.txt", "x\n1\n")
    assert arrivals.look() == []
    (arrival,) = arrivals.look()
    assert (arrival.file, arrival.inner) == (f"{bucket}/2026/a.csv", "2026/a.csv")
    arrivals.tell(arrival)
    assert arrivals.look() == []
    put(f"{bucket}/2026/a.csv", "x\n2\n")
    assert arrivals.look() == []
    (changed,) = arrivals.look()
    assert changed.digest != arrival.digest


def test_a_bucket_that_does_not_answer_is_told_as_that(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Unavailable) as refused:
        Arrivals(find_place(bucket), "*").look()
    assert refused.value.code == "lost_store"
