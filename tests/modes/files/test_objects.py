"""Rows and answers in an object store: a real S3 server on loopback."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from foretell.errors import ForetellError, Setup, Unavailable
from foretell.modes.files import predict
from foretell.settings import PredictSettings
from foretell.storage import create, find_place, walk
from foretell.tensors import Arrays
from tests import stores
from tests.modes.files.models import Only, features, pipeline
from tests.modes.files.test_predict import write_rows

SETTINGS = PredictSettings(batch_rows=16, shard_rows=20, workers=2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stores.s3(tmp_path_factory.mktemp("s3") / "log") as (address, _):
        yield address


@pytest.fixture(autouse=True)
def pointed(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.point_at(server, monkeypatch)


def upload(file: Path, url: str) -> None:
    with create(find_place(url)) as stream:
        stream.write(file.read_bytes())


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet", "npy"])
def test_files_of_a_bucket_are_answered_into_a_bucket(tmp_path: Path, suffix: str) -> None:
    for at in range(2):
        upload(
            write_rows(tmp_path / f"{at}.{suffix}", features(90)[at * 45 : at * 45 + 45]),
            f"s3://lake/{suffix}/in/{at}.{suffix}",
        )
    url = f"s3://lake/{suffix}"
    report = predict(pipeline(Only()), f"{url}/in/*.{suffix}", f"{url}/answers.parquet", SETTINGS)
    back = pa.parquet.read_table(io.BytesIO(find_place(f"{url}/answers.parquet").read_bytes())).to_pydict()
    assert report.rows == 90
    assert back["file"] == [f"{at}.{suffix}" for at in range(2) for _ in range(45)]
    np.testing.assert_array_equal(np.array(back["z"], np.float32), features(90) * 2)
    assert [place.name for place in walk(find_place(url)) if place.parent.name == suffix] == ["answers.parquet"]


def test_a_folder_of_answers_in_a_bucket_is_taken_up_again(tmp_path: Path) -> None:
    upload(write_rows(tmp_path / "rows.csv", features(90)), "s3://lake/again/rows.csv")

    class Failing(Only):
        calls = 0

        def forward(self, inputs: Arrays) -> Arrays:
            self.calls += 1
            if self.calls == 5:
                raise Unavailable("model_crashed", "it is gone")
            return super().forward(inputs)

    settings = PredictSettings(batch_rows=16, shard_rows=20, workers=1, retries=0)
    with pytest.raises(ForetellError):
        predict(pipeline(Failing()), "s3://lake/again/rows.csv", "s3://lake/again/out/", settings)
    report = predict(pipeline(Only()), "s3://lake/again/rows.csv", "s3://lake/again/out/", settings)
    assert (report.rows, report.resumed) == (90, 40)
    parts = list(walk(find_place("s3://lake/again/out")))
    assert [part.name for part in parts] == [f"part-{at:07}.csv" for at in range(5)]
    assert sum(part.read_bytes().count(b"\n") - 1 for part in parts) == 90


def test_what_is_not_in_the_bucket_is_a_missing_file() -> None:
    for url in ("s3://lake/nothing.csv", "s3://lake/nothing/"):
        with pytest.raises(Setup) as refusal:
            predict(pipeline(Only()), url, "s3://lake/answers.csv", SETTINGS)
        assert refusal.value.code == "missing_file"


def test_bad_rows_are_told_beside_the_answers(tmp_path: Path) -> None:
    values = features(30)
    values[7, 1] = 666
    upload(write_rows(tmp_path / "rows.csv", values), "s3://lake/bad/rows.csv")
    report = predict(pipeline(Only()), "s3://lake/bad/rows.csv", "s3://lake/bad/a.csv", SETTINGS)
    assert str(report.errors) == "s3://lake/bad/a.csv.errors.ndjson"
    assert report.errors is not None
    assert json.loads(report.errors.read_bytes())["row"] == 7


def test_a_store_that_is_lost_is_named_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_rows(tmp_path / "rows.csv", features(90))
    with stores.s3(tmp_path / "log") as (address, server):
        stores.point_at(address, monkeypatch)
        upload(source, "s3://lake/rows.csv")

        class Deadly(Only):
            calls = 0

            def forward(self, inputs: Arrays) -> Arrays:
                self.calls += 1
                if self.calls == 5:
                    server.kill()
                    server.wait()
                return super().forward(inputs)

        settings = PredictSettings(batch_rows=16, shard_rows=20, workers=1, retries=0)
        with pytest.raises(Unavailable, match=r"s3://lake/rows\.csv.*does not answer") as lost:
            predict(pipeline(Deadly()), "s3://lake/rows.csv", tmp_path / "a.csv", settings)
    assert lost.value.code == "lost_store"
    assert not (tmp_path / "a.csv").exists()
    with stores.s3(tmp_path / "log2") as (address, _):
        stores.point_at(address, monkeypatch)
        upload(source, "s3://lake/rows.csv")
        report = predict(pipeline(Only()), "s3://lake/rows.csv", tmp_path / "a.csv", settings)
    assert report.rows == 90
    assert report.resumed >= 40
