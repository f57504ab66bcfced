"""Names, archives, sounds and expressions made to break a run: each is a named refusal, or a bad row."""

import io
import json
import os
import tarfile
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell.errors import Setup
from foretell.modes.files import Options, predict
from foretell.modes.files.archives import list_members
from foretell.modes.files.sounds import decode_sound
from foretell.modes.files.where import parse
from foretell.storage import walk
from tests.modes.files.models import ONE_WORKER, Only, features, pipeline
from tests.modes.files.test_predict import write_rows


def refusal_of(source: Path | str, target: Path, **options: Any) -> Setup:
    with pytest.raises(Setup) as refusal:
        predict(pipeline(Only()), source, target, ONE_WORKER, Options(**options))
    refusal.value.message.encode()
    return refusal.value


def sound(frames: int, rate_hz: int) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate_hz)
        written.writeframes(b"\1\2" * frames)
    return stream.getvalue()


@pytest.mark.parametrize("rate_hz", [1, 99, 2**29])
def test_a_sound_of_an_absurd_rate_is_refused(rate_hz: int) -> None:
    with pytest.raises(ValueError, match=r"samples a second|does not decode"):
        decode_sound(sound(20_000, rate_hz), 16_000)


def test_a_sound_that_would_swell_as_its_rate_is_changed_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        decode_sound(sound(200_000, 100), 192_000)


def test_a_sound_of_another_rate_is_resampled() -> None:
    assert decode_sound(sound(8_000, 8_000), 16_000).shape == (16_000,)


def test_what_is_no_sound_is_refused_without_an_address_in_memory() -> None:
    with pytest.raises(ValueError, match="does not decode as a sound") as refusal:
        decode_sound(b"hello", 16_000)
    assert "0x" not in str(refusal.value)


@pytest.mark.parametrize("size", [-1, -512])
def test_a_member_of_negative_size_is_refused(tmp_path: Path, size: int) -> None:
    header = bytearray(tarfile.TarInfo("a.png").tobuf())
    header[124:136] = b"\xff" + size.to_bytes(11, "big", signed=True)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + b"\0" * 2048)
    with pytest.raises(Setup) as refusal:
        list_members(path, [".png"])
    assert refusal.value.code == "broken_file"


@pytest.mark.parametrize(
    "where", ["x_0 == {[]}", "x_0 == {1:[],[]:1}", "x_0 == '\\ud800'", "x_0 in ['\\ud800']", "x_0 > " + "9" * 4000]
)
def test_a_value_that_cannot_be_compared_is_refused(where: str) -> None:
    with pytest.raises(Setup) as refusal:
        parse(where)
    assert refusal.value.code == "wrong_filter"


@pytest.mark.parametrize(
    ("where", "rows"), [("x_0 < 1" + "0" * 30, 4), ("x_0 in [1" + "0" * 30 + "]", 0), (f"x_0 != {2**53 + 1}", 4)]
)
def test_whole_numbers_of_any_size_are_compared(tmp_path: Path, where: str, rows: int) -> None:
    source = write_rows(tmp_path / "rows.csv", features(4))
    assert predict(pipeline(Only()), source, tmp_path / "a.ndjson", ONE_WORKER, Options(where=where)).rows == rows


@pytest.mark.parametrize("suffix", ["ndjson", "csv", "parquet"])
def test_a_kept_cell_that_is_not_utf8_makes_a_bad_row(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / "rows.csv"
    source.write_bytes("x_0,x_1,x_2,name\n1,2,3,Zoë\n1,2,3,".encode() + b"Zo\xeb\n")
    target = tmp_path / f"a.{suffix}"
    report = predict(pipeline(Only()), source, target, ONE_WORKER, Options(keep=("name",)))
    assert (report.rows, report.failed) == (1, 1)
    assert report.errors is not None
    line = json.loads(report.errors.read_bytes())
    assert (line["row"], line["code"]) == (1, "bad_row")
    assert "'name'" in line["error"]


def test_a_pattern_that_cannot_be_understood_is_refused(tmp_path: Path) -> None:
    assert refusal_of(f"{tmp_path}/[z-a].csv", tmp_path / "a.csv").code == "missing_file"


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert refusal_of(tmp_path / ("a" * 300 + ".csv"), tmp_path / "a.csv").code == "broken_file"


@pytest.mark.parametrize("name", [b"lake/\xff.csv", b"lake/year=\xff/rows.csv"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    os.makedirs(os.path.dirname(path))
    os.rename(write_rows(tmp_path / "rows.csv", features(1)), path)
    refusal = refusal_of(tmp_path / "lake", tmp_path / "a.csv")
    assert refusal.code == "broken_file"
    assert "not UTF-8" in refusal.message
    assert refusal_of(os.fsdecode(path), tmp_path / "a.csv").code == "broken_file"


def test_a_link_in_a_circle_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    write_rows(tmp_path / "lake" / "rows.csv", features(3))
    (tmp_path / "lake" / "l").symlink_to("l")
    assert predict(pipeline(Only()), tmp_path / "lake", tmp_path / "a.csv", ONE_WORKER).rows == 3


def test_folders_too_deep_are_refused(tmp_path: Path) -> None:
    deep = tmp_path / "lake"
    for _ in range(120):
        deep /= "d"
    deep.mkdir(parents=True)
    refusal = refusal_of(tmp_path / "lake", tmp_path / "a.csv")
    assert refusal.code == "broken_file"
    assert "100 folders" in refusal.message


def test_a_folder_is_walked_in_the_order_of_its_paths(tmp_path: Path) -> None:
    names = ["a/x", "a/y/z", "b", "c/a", "d"]
    for name in reversed(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    np.testing.assert_array_equal([str(path)[len(str(tmp_path)) + 1 :] for path in walk(tmp_path)], names)
