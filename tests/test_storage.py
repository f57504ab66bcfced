"""Small files beside a model: only plain ones, none too large, none from elsewhere."""

import os
from pathlib import Path

import pytest

from foretell.errors import Setup
from foretell.repository import find_models
from foretell.storage import check_inside, read_small


def test_a_small_plain_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_small(tmp_path / "a", 3) == b"abc"
    with pytest.raises(ValueError, match="more than 2 bytes"):
        read_small(tmp_path / "a", 2)


def test_a_pipe_a_device_and_a_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="it is"):
            read_small(path, 10)


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (tmp_path / "secret").write_text("s")
    (folder / "real").write_text("r")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "within").symlink_to(folder / "real")
    check_inside(folder / "within", folder)
    with pytest.raises(Setup, match="leads out"):
        check_inside(folder / "out", folder)


@pytest.mark.parametrize("name", ["pipeline.toml", "config.pbtxt"])
def test_a_configuration_that_is_a_pipe_or_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"x")
    os.mkfifo(folder / name)
    with pytest.raises(Setup, match="it is no plain file"):
        find_models([folder])
    (folder / name).unlink()
    (tmp_path / "secret").write_text("secret_token: 1")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(Setup, match="leads out"):
        find_models([folder])


def test_a_huge_pipeline_toml_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    (tmp_path / "pipeline.toml").write_text(".".join("a" * 200_000) + " = 1")
    with pytest.raises(Setup, match="more than"):
        find_models([tmp_path])


@pytest.mark.parametrize("name", ["circle", "a\0b"])
def test_what_leads_nowhere_leads_out(name: str, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(Setup, match="leads out of"):
        check_inside(tmp_path / name, tmp_path)
