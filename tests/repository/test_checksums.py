"""SHA256SUMS: a folder is complete, and right, when every file that it lists is there with that digest."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from foretell.errors import Setup
from foretell.repository import Repository, find_models, open_pipeline
from foretell.repository.checksums import SUMS_FILE, find_missing, read_sums, verify
from tests.backends.graphs import linear, save

NEEDS_TOOL = pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version with two files and a list of them, written by the tool itself."""
    folder = tmp_path / "models" / "m" / "2"
    folder.mkdir(parents=True)
    save(linear(), folder / "model.onnx")
    (folder / "labels.txt").write_text("a\nb\nc\n")
    return folder


def sums(folder: Path, *names: str, options: str = "") -> Path:
    command = f"sha256sum {options} {' '.join(names) or '*'} > {SUMS_FILE}"
    subprocess.run(["sh", "-c", command], cwd=folder, check=True)
    return folder / SUMS_FILE


def refused(folder: Path, code: str, *words: str) -> None:
    with pytest.raises(Setup) as caught:
        verify(folder)
    assert caught.value.code == code
    for word in words:
        assert word in caught.value.message


@NEEDS_TOOL
@pytest.mark.parametrize("options", ["", "--binary", "--text"])
def test_a_folder_is_verified_by_what_sha256sum_wrote(options: str, folder: Path) -> None:
    sums(folder, options=options)
    assert verify(folder)
    assert find_missing(folder) is None
    sums(folder)  # the second time, the list lists itself
    assert SUMS_FILE in (folder / SUMS_FILE).read_text()
    assert verify(folder)


@NEEDS_TOOL
def test_a_list_of_a_whole_tree_is_read(folder: Path) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / "weights.bin").write_bytes(b"123")
    sums(folder, "./model.onnx", "./labels.txt", "./parts/weights.bin")
    assert verify(folder)
    (folder / "parts" / "weights.bin").write_bytes(b"124")
    refused(folder, "wrong_checksum", "weights.bin has the SHA-256")


def test_a_folder_without_a_list_is_not_verified(folder: Path) -> None:
    assert not verify(folder)
    assert read_sums(folder) is None
    assert find_missing(folder) is None


@NEEDS_TOOL
def test_one_changed_byte_is_found(folder: Path) -> None:
    sums(folder)
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)
    refused(folder, "wrong_checksum", "model.onnx", "copy it again")
    with pytest.raises(Setup, match=r"model\.onnx has the SHA-256"):
        open_pipeline(folder.parent)


@NEEDS_TOOL
def test_a_file_that_is_not_listed_is_refused(folder: Path) -> None:
    sums(folder, "model.onnx")
    refused(folder, "wrong_checksum", "does not list labels.txt")
    (folder / "labels.txt").rename(folder / ".labels.txt")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"")
    assert verify(folder)


@NEEDS_TOOL
def test_what_a_model_folder_lists_leaves_its_versions_out(folder: Path) -> None:
    (folder.parent / "pipeline.toml").write_text("")
    sums(folder.parent, "pipeline.toml")
    assert verify(folder.parent, holds_versions=True)
    open_pipeline(folder.parent).model.close()
    (folder.parent / "pipeline.toml").write_text("[engine]\nmax_batch_rows = 8\n")
    with pytest.raises(Setup, match=r"pipeline\.toml has the SHA-256"):
        open_pipeline(folder.parent)


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "a/../../b", "a\0b"])
def test_a_listed_file_outside_the_folder_is_refused(name: str, folder: Path) -> None:
    (folder / SUMS_FILE).write_text(f"{'0' * 64}  {name}\n")
    refused(folder, "outside_folder", "leads out of the folder")
    (found,) = Repository([folder.parent]).scan()
    assert found.error is not None
    assert found.error.code == "outside_folder"


@pytest.mark.parametrize("name", ["model.onnx", SUMS_FILE])
def test_a_link_out_of_the_folder_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(f"{'0' * 64}  model.onnx\n")
    (folder / SUMS_FILE).write_text(f"{'0' * 64}  model.onnx\n")
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "elsewhere")
    refused(folder, "outside_folder", "leads out of")


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "0" * 63 + "  model.onnx",
        "SHA256 (model.onnx) = " + "0" * 64,
        "0" * 64 + " model.onnx",
        "\\" + "0" * 64 + "  a",
    ],
)
def test_what_is_no_list_of_checksums_is_refused(text: str, folder: Path) -> None:
    (folder / SUMS_FILE).write_text(f"\n{text}\n")
    refused(folder, "wrong_checksum", "line 2 is not 64 hexadecimal digits", "sha256sum")


def test_a_list_that_is_not_text_or_endless_is_refused(folder: Path) -> None:
    (folder / SUMS_FILE).write_bytes(b"\xff")
    refused(folder, "wrong_checksum", "is no list of checksums")
    (folder / SUMS_FILE).write_bytes(b"\n" * (2**20 + 1))
    refused(folder, "wrong_checksum", "more than")


def test_a_pipe_that_is_listed_is_not_waited_for(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    (folder / SUMS_FILE).write_text(f"{'0' * 64}  model.onnx\n")
    refused(folder, "wrong_checksum", "no plain file")


def test_digests_in_capitals_and_lines_of_windows_are_read(folder: Path) -> None:
    (folder / SUMS_FILE).write_bytes(b"%b *model.onnx\r\n" % (b"AB" * 32))
    assert read_sums(folder) == {"model.onnx": "ab" * 32}


def test_a_listed_folder_is_no_file(folder: Path) -> None:
    (folder / "parts").mkdir()
    (folder / SUMS_FILE).write_text(f"{'0' * 64}  parts\n")
    refused(folder, "wrong_checksum", "parts is listed, but it is no plain file")


@NEEDS_TOOL
def test_a_version_is_passed_over_until_its_listed_files_are_there(folder: Path) -> None:
    before = folder.parent / "1"
    before.mkdir()
    save(linear(), before / "model.onnx")
    sums(folder)
    (folder / "labels.txt").rename(folder.parent / "later.txt")
    (found,) = Repository([folder.parent.parent]).scan()
    assert [source.version for source in found.sources] == ["1"]
    assert found.passed_over == {"2": "incomplete: SHA256SUMS lists 'labels.txt', which is not there yet"}
    assert found.incomplete == {"2"}
    (folder.parent / "later.txt").rename(folder / "labels.txt")
    (found,) = Repository([folder.parent.parent]).scan()
    assert [source.version for source in found.sources] == ["2"]


def test_a_model_may_ask_for_checksums_of_every_version(folder: Path) -> None:
    (folder.parent / "pipeline.toml").write_text("[versions]\nchecksums = true\n")
    (found,) = Repository([folder.parent]).scan()
    assert (found.sources, found.error) == ((), None)
    assert found.passed_over == {"2": "incomplete: it has no SHA256SUMS yet, which [versions] checksums asks for"}
    with pytest.raises(Setup, match="has no version that is whole: incomplete: it has no SHA256SUMS"):
        open_pipeline(folder.parent)


def test_a_label_on_a_version_that_is_not_whole_says_so(folder: Path) -> None:
    (folder.parent / "1").mkdir()
    save(linear(), folder.parent / "1" / "model.onnx")
    (folder / SUMS_FILE).write_text(f"{'0' * 64}  gone.bin\n")
    for table in ("labels = { stable = 2 }", "policy = [2]"):
        (folder.parent / "pipeline.toml").write_text(f"[versions]\n{table}\n")
        with pytest.raises(Setup, match=r"incomplete: SHA256SUMS lists 'gone\.bin'"):
            find_models([folder.parent])


@pytest.mark.parametrize(
    "name", [".m", "_m", "m.tmp", "m.part", "m.partial", "m.filepart", "m.crdownload", "m.swp", "m~", "lost+found", "M.TMP"]
)
def test_what_is_still_being_copied_is_as_if_it_were_not_there(name: str, folder: Path) -> None:
    models = folder.parent.parent
    os.rename(folder.parent, models / name)
    with pytest.raises(Setup, match="holds no models"):
        find_models([models])
    os.rename(models / name, models / "m")
    (models / "m" / "2" / ".model.onnx.Xq3").write_bytes(b"half")
    (models / "m" / "2" / "._model.onnx").write_bytes(b"half")
    (models / "m" / "3.tmp").mkdir()
    assert [source.version for source in find_models([models])] == ["2"]


def test_a_file_that_is_listed_with_two_digests_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  model.onnx\n{hashlib.sha256().hexdigest()}  ./model.onnx\n")
    with pytest.raises(Setup, match="two digests") as refusal:
        verify(tmp_path)
    assert refusal.value.code == "wrong_checksum"
