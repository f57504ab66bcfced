"""Inputs of many files: folders, patterns, partitions, archives, arrays, sounds; and answers laid out like them."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile  # type: ignore[import-untyped]  # it ships none

from foretell.errors import Setup
from foretell.modes.files import Options, predict
from foretell.settings import PredictSettings
from foretell.tensors import Datatype, TensorSpec
from tests.modes.files.models import ONE_WORKER, Mirror, Only, Sum, features, pipeline, table
from tests.modes.files.test_predict import write_rows

SETTINGS = PredictSettings(batch_rows=16, shard_rows=20, workers=2)
IMAGES = Mirror(TensorSpec("image", Datatype.BYTES))
WAVES = Mirror(TensorSpec("wave", Datatype.FP32, (None,)))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def lake(tmp_path: Path, suffix: str = "parquet") -> Path:
    """Three files of 30 rows in two partitions."""
    values = features(90)
    for at, folder in enumerate(["year=2024/land=DE", "year=2025/land=DE", "year=2025/land=FR"]):
        (tmp_path / "lake" / folder).mkdir(parents=True)
        write_rows(tmp_path / "lake" / folder / f"rows.{suffix}", values[at * 30 : at * 30 + 30])
    (tmp_path / "lake" / "_SUCCESS").touch()
    return tmp_path / "lake"


@pytest.mark.parametrize("suffix", ["parquet", "csv", "npy"])
def test_the_files_of_a_folder_are_answered_in_order_by_name(tmp_path: Path, suffix: str) -> None:
    report = predict(pipeline(Only()), lake(tmp_path, suffix), tmp_path / "answers.ndjson", SETTINGS)
    rows = lines(tmp_path / "answers.ndjson")
    assert report.rows == 90
    assert [row["row"] for row in rows] == [*range(30)] * 3
    assert rows[30]["file"] == f"year=2025/land=DE/rows.{suffix}"
    np.testing.assert_array_equal(np.array([row["z"] for row in rows], np.float32), features(90) * 2)


def test_a_folder_of_answers_is_laid_out_like_the_input(tmp_path: Path) -> None:
    predict(pipeline(Only()), lake(tmp_path), f"{tmp_path}/answers/", SETTINGS)
    found = sorted(str(path.relative_to(tmp_path / "answers")) for path in (tmp_path / "answers").rglob("*") if path.is_file())
    assert len(found) == 6
    assert found[0].startswith("year=2024/land=DE/part-")
    back = pa.parquet.read_table(tmp_path / "answers")
    assert back["year"].to_pylist() == [2024] * 30 + [2025] * 60
    np.testing.assert_array_equal(np.array(back["z"].to_pylist(), np.float32), features(90) * 2)


def test_a_folder_that_holds_answers_is_replaced_on_demand_only(tmp_path: Path) -> None:
    target = f"{tmp_path}/answers/"
    predict(pipeline(Only()), lake(tmp_path), target, SETTINGS)
    with pytest.raises(Setup, match="holds files already") as refusal:
        predict(pipeline(Only()), tmp_path / "lake", target, SETTINGS, Options(limit=10))
    assert refusal.value.code == "wrong_target"
    assert pa.parquet.read_table(tmp_path / "answers").num_rows == 90
    predict(pipeline(Only()), tmp_path / "lake", target, SETTINGS, Options(limit=10, restart=True))
    assert pa.parquet.read_table(tmp_path / "answers").num_rows == 10


def test_partitions_are_columns_that_can_be_asked_for(tmp_path: Path) -> None:
    options = Options(keep=("land", "year"), where="year == 2025 and land == 'FR'")
    report = predict(pipeline(Only()), lake(tmp_path), tmp_path / "answers.parquet", SETTINGS, options)
    back = pa.parquet.read_table(tmp_path / "answers.parquet").to_pydict()
    assert (report.rows, report.passed_over) == (30, 60)
    assert set(back["year"]) == {2025}
    assert set(back["land"]) == {"FR"}


def test_a_pattern_names_files_in_a_folder_or_across_folders(tmp_path: Path) -> None:
    folder = lake(tmp_path)
    assert predict(pipeline(Only()), f"{folder}/year=2025/*/*.parquet", tmp_path / "a.ndjson", SETTINGS).rows == 60
    assert predict(pipeline(Only()), f"{folder}/**/land=D?/rows.parquet", tmp_path / "a.ndjson", SETTINGS).rows == 60
    with pytest.raises(Setup, match=r"nothing matches .*/\*\.parquet: check the pattern"):
        predict(pipeline(Only()), f"{folder}/*.parquet", tmp_path / "a.ndjson", SETTINGS)


def test_files_of_two_formats_are_refused_with_the_cure(tmp_path: Path) -> None:
    folder = lake(tmp_path)
    write_rows(folder / "more.csv", features(3))
    with pytest.raises(Setup, match=r"csv and parquet.*lake/\*\*/\*\.csv"):
        predict(pipeline(Only()), f"{folder}/", tmp_path / "a.ndjson", SETTINGS)


def test_kept_columns_stand_before_the_answers_and_give_way_to_their_names(tmp_path: Path) -> None:
    kept = {"id": [7, 8], "y": [1.5, None], "tags": [["a"], []], "b": [b"\x00", b"b"]}
    pa.parquet.write_table(pa.table({**table(features(2)).to_pydict(), **kept}), tmp_path / "rows.parquet")
    options = Options(keep=("id", "y", "tags", "b"))
    predict(pipeline(Sum()), tmp_path / "rows.parquet", tmp_path / "a.ndjson", ONE_WORKER, options)
    (first, second) = lines(tmp_path / "a.ndjson")
    assert list(first) == ["row", "id", "y_kept", "tags", "b", "y", "z"]
    assert (first["id"], first["y_kept"], first["tags"], first["b"]) == (7, 1.5, ["a"], {"b64": "AA=="})
    assert second["y_kept"] is None
    predict(pipeline(Sum()), tmp_path / "rows.parquet", tmp_path / "a.parquet", ONE_WORKER, options)
    assert pa.parquet.read_table(tmp_path / "a.parquet")["tags"].to_pylist() == [["a"], []]
    predict(pipeline(Sum()), tmp_path / "rows.parquet", tmp_path / "a.csv", ONE_WORKER, Options(keep=("id", "tags")))
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith('0,7,"[""a""]",')


def test_columns_of_ndjson_are_kept_as_they_were_written(tmp_path: Path) -> None:
    rows = ['{"x": [1, 2, 3], "id": 1.50, "who": {"a": 1}}', '{"x": [1, 2, 3], "id": "é", "who": null}', '{"x": 1, "id": 3}']
    (tmp_path / "rows.ndjson").write_text("\n".join(rows))
    report = predict(pipeline(Only()), tmp_path / "rows.ndjson", tmp_path / "a.ndjson", ONE_WORKER, Options(keep=("id", "who")))
    text = (tmp_path / "a.ndjson").read_text()
    assert report.failed == 1
    assert '"id":1.50,"who":{"a": 1}' in text
    predict(pipeline(Only()), tmp_path / "rows.ndjson", tmp_path / "a.parquet", ONE_WORKER, Options(keep=("*",)))
    assert pa.parquet.read_table(tmp_path / "a.parquet")["id"].to_pylist() == ["1.50", "é"]


def test_columns_of_csv_are_kept_as_text(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('id,x_0,x_1,x_2\n007,1,2,3\n"a,b",1,2,3\n,1,2,oops\n')
    report = predict(pipeline(Only()), tmp_path / "rows.csv", tmp_path / "a.csv", ONE_WORKER, Options(keep=("id",)))
    assert [line.split(",2")[0] for line in (tmp_path / "a.csv").read_text().splitlines()[1:]] == ['0,"007"', '1,"a,b"']
    assert report.failed == 1


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet", "npy"])
def test_only_the_first_rows_are_looked_at_on_demand(tmp_path: Path, suffix: str) -> None:
    source = write_rows(tmp_path / f"rows.{suffix}", features(90))
    for limit in (0, 20, 33):
        report = predict(pipeline(Only()), source, tmp_path / "a.ndjson", SETTINGS, Options(limit=limit))
        assert [row["row"] for row in lines(tmp_path / "a.ndjson")] == [*range(limit)]
        assert report.rows == limit


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet", "npy"])
def test_a_sample_is_the_same_in_every_format_and_run(tmp_path: Path, suffix: str) -> None:
    source = write_rows(tmp_path / f"rows.{suffix}", features(90))
    report = predict(pipeline(Only()), source, tmp_path / "a.ndjson", SETTINGS, Options(sample=0.5, seed=3))
    drawn = [row["row"] for row in lines(tmp_path / "a.ndjson")]
    assert report.rows + report.passed_over == 90
    assert 20 < len(drawn) < 70
    other = predict(pipeline(Only()), source, tmp_path / "b.ndjson", ONE_WORKER, Options(sample=0.5, seed=3))
    assert other.rows == report.rows


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_the_images_of_an_archive_are_rows_by_name(tmp_path: Path, suffix: str) -> None:
    names = ["b/2.png", "a/1.jpg", "a/notes.txt", ".hidden.png", "__MACOSX/a/1.jpg"]
    path = tmp_path / f"scans.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in names:
                packed.writestr(name, name)
    else:
        with tarfile.open(path, "w") as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(name)
                tar.addfile(info, io.BytesIO(name.encode()))
            link = tarfile.TarInfo("link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
    predict(pipeline(IMAGES), path, tmp_path / "a.ndjson", SETTINGS)
    assert [(row["file"], row["image_out"]) for row in lines(tmp_path / "a.ndjson")] == [(n, n) for n in ("a/1.jpg", "b/2.png")]


def test_an_archive_that_leads_elsewhere_or_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foretell.modes.files import archives

    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
        packed.writestr("../../evil.png", "x")
    with pytest.raises(Setup, match="leads out of it"):
        predict(pipeline(IMAGES), tmp_path / "evil.zip", tmp_path / "a.ndjson", SETTINGS)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", "fine")
        packed.writestr("b.png", bytes(10_000_000))
    monkeypatch.setattr(archives, "MOST_MEMBER_BYTES", 1_000_000)
    report = predict(pipeline(IMAGES), tmp_path / "bomb.zip", tmp_path / "a.ndjson", SETTINGS)
    assert (report.rows, report.failed) == (1, 1)
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    with pytest.raises(Setup, match="pack it again"):
        predict(pipeline(IMAGES), tmp_path / "broken.zip", tmp_path / "a.ndjson", SETTINGS)


def test_sounds_become_samples_at_one_rate_where_the_model_takes_those(tmp_path: Path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    tone = np.sin(np.arange(8000) / 20).astype(np.float32)
    soundfile.write(folder / "a.wav", np.stack([tone, tone], axis=1), 8000)
    soundfile.write(folder / "b.flac", tone, 16000)
    (folder / "c.wav").write_bytes(b"RIFF nonsense")
    report = predict(pipeline(WAVES), folder, tmp_path / "a.ndjson", SETTINGS)
    rows = lines(tmp_path / "a.ndjson")
    assert [(row["file"], len(row["wave_out"])) for row in rows] == [("a.wav", 16000), ("b.flac", 8000)]
    np.testing.assert_allclose(rows[1]["wave_out"][:100], tone[:100], atol=1e-3)
    assert report.errors is not None
    assert [bad["code"] for bad in map(json.loads, report.errors.read_bytes().splitlines())] == ["bad_sound"]


def test_an_npz_holds_an_array_for_each_input(tmp_path: Path) -> None:
    both = Mirror(TensorSpec("a", Datatype.FP32, (3,)), TensorSpec("b", Datatype.INT64))
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "rows.npz", a=features(50), b=np.arange(50))
        predict(pipeline(both), tmp_path / "rows.npz", tmp_path / "a.ndjson", SETTINGS)
        rows = lines(tmp_path / "a.ndjson")
        assert [row["b_out"] for row in rows] == [*range(50)]
        np.testing.assert_array_equal(np.array([row["a_out"] for row in rows], np.float32), features(50))


def test_the_arrays_of_an_npz_can_be_kept_and_compared_by_name(tmp_path: Path) -> None:
    place = tmp_path / "lake" / "year=2025"
    place.mkdir(parents=True)
    names, scores = np.array([f"n{i}" for i in range(50)]), np.arange(50, dtype=">f8")
    np.savez(place / "rows.npz", x=features(50), name=names, score=scores, pair=np.arange(100).reshape(50, 2))
    options = Options(keep=("name", "pair", "year"), where="score >= 40 and year == 2025")
    report = predict(pipeline(Only()), tmp_path / "lake", tmp_path / "a.ndjson", SETTINGS, options)
    rows = lines(tmp_path / "a.ndjson")
    assert (report.rows, report.passed_over) == (10, 40)
    assert [(row["name"], row["pair"], row["year"]) for row in rows] == [
        (f"n{i}", [2 * i, 2 * i + 1], 2025) for i in range(40, 50)
    ]
    np.testing.assert_array_equal(np.array([row["z"] for row in rows], np.float32), features(50)[40:] * 2)
    with pytest.raises(Setup, match=r"--keep nam: .*did you mean 'name'"):
        predict(pipeline(Only()), tmp_path / "lake", tmp_path / "b.ndjson", SETTINGS, Options(keep=("nam",)))


@pytest.mark.parametrize(
    ("options", "code"), [(Options(keep=("id",)), "wrong_keep"), (Options(where="id > 1"), "wrong_filter")]
)
def test_an_npy_has_no_columns_to_keep_or_compare(tmp_path: Path, options: Options, code: str) -> None:
    source = write_rows(tmp_path / "rows.npy", features(5))
    with pytest.raises(Setup, match="no column") as refusal:
        predict(pipeline(Only()), source, tmp_path / "a.ndjson", SETTINGS, options)
    assert refusal.value.code == code
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros((2, 3)), "b": np.arange(3)}, "same number"),
        ({"a": np.zeros((2, 3)), "c": np.arange(2)}, "no array 'b'"),
        ({"a": np.zeros((2, 4)), "b": np.arange(2)}, r"\[2, 4\] for input a"),
        ({"a": np.asfortranarray(np.zeros((2, 3))), "b": np.arange(2)}, "C order"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused_by_name(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    both = Mirror(TensorSpec("a", Datatype.FP32, (3,)), TensorSpec("b", Datatype.INT64))
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(Setup, match=words):
        predict(pipeline(both), tmp_path / "rows.npz", tmp_path / "a.ndjson", SETTINGS)


def test_several_models_answer_side_by_side_from_one_read(tmp_path: Path) -> None:
    from foretell.modes.files import combine

    both = combine({"sum": pipeline(Sum()), "only": pipeline(Only())})
    predict(both, write_rows(tmp_path / "rows.csv", features(30)), tmp_path / "a.ndjson", SETTINGS)
    rows = lines(tmp_path / "a.ndjson")
    assert list(rows[0]) == ["row", "sum.y", "sum.z", "only.z"]
    np.testing.assert_array_equal(np.array([row["only.z"] for row in rows], np.float32), features(30) * 2)
    other = combine({"x": pipeline(Mirror(TensorSpec("x", Datatype.FP32, (2,)))), "y": pipeline(Only())})
    assert [spec.name for spec in other.signature.inputs] == ["x.x", "y.x"]
