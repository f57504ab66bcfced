"""What a ``.keras`` archive may hold, looked at without Keras."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from foretell.errors import Setup
from foretell.formats.keras import read_keras

DENSE = {
    "module": "keras.layers",
    "class_name": "Dense",
    "config": {"units": 2, "kernel_initializer": {"module": "keras.initializers", "class_name": "Zeros", "config": {}}},
    "registered_name": None,
}


def archive(path: Path, layer: Any = DENSE, **members: bytes) -> Path:
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}, "registered_name": "Sequential"}
    content = {
        "config.json": json.dumps(config).encode(),
        "metadata.json": b'{"keras_version": "3.15.1"}',
        "model.weights.h5": b"weights",
        **members,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            if data:
                file.writestr(name, data)
    return path


def refusal(path: Path, trust: bool = False) -> Setup:
    with pytest.raises(Setup) as refused:
        read_keras(path, trust)
    assert str(path) in refused.value.message
    return refused.value


def layer(name: str, module: str | None = "keras.layers", registered: str | None = None, **config: object) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}


def test_an_archive_tells_who_made_it(tmp_path: Path) -> None:
    assert read_keras(archive(tmp_path / "m.keras"), trust=False) == {
        "format": "Keras 3 archive",
        "producer": "keras 3.15.1",
    }


@pytest.mark.parametrize(
    "bad",
    [
        layer("Lambda", function={"class_name": "__lambda__", "config": {"code": "4wEAAA"}}),
        layer("TFSMLayer", filepath="/elsewhere"),
        layer("TorchModuleWrapper", module_="x"),
        layer("Mine", None, "Mine"),
        layer("Mine", "net", "Custom>Mine"),
        layer("Dense", "keras.layers", "package>Dense"),
        layer("Model", "keras_hub.models"),
        layer("Popen", "subprocess"),
        layer("function", "builtins"),
        layer("Dense", "keras.layers", activation={"module": "os", "class_name": "function", "config": "system"}),
        layer("Dense", ["keras"]),  # type: ignore[arg-type]
        layer("StringLookup", vocabulary="/etc/hostname"),
    ],
    ids=lambda item: f"{item['module']}.{item['class_name']}",
)
def test_what_is_not_part_of_keras_or_runs_code_needs_trust(tmp_path: Path, bad: object) -> None:
    path = archive(tmp_path / "m.keras", {"wrapped": [[bad]]})
    refused = refusal(path)
    assert refused.code == "untrusted_model"
    assert "trust = true" in refused.message
    assert read_keras(path, trust=True)["format"] == "Keras 3 archive"


def test_a_vocabulary_in_the_archive_itself_needs_no_trust(tmp_path: Path) -> None:
    read_keras(archive(tmp_path / "m.keras", layer("StringLookup", vocabulary=["one", "two"])), trust=False)


@pytest.mark.parametrize("missing", ["config.json", "metadata.json", "model.weights.h5"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    refused = refusal(archive(tmp_path / "m.keras", **{missing: b""}), trust=True)
    assert refused.code == "broken_model"
    assert missing in refused.message


@pytest.mark.parametrize("name", ["../x", "/x", "assets/../../x", "assets\\x"])
def test_files_that_would_be_unpacked_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    refused = refusal(archive(tmp_path / "m.keras", **{name: b"x"}), trust=True)
    assert "unpacked elsewhere" in refused.message


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    refused = refusal(archive(tmp_path / "m.keras", **{"assets/zeros": bytes(80 * 2**20)}))
    assert "would unpack to 8" in refused.message


def test_a_configuration_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", **{"config.json": b" " * (65 * 2**20), "assets/noise": random_bytes(2 * 2**20)})
    with pytest.raises(ValueError, match=r"config\.json has more than"):
        read_keras(path, trust=True)


def random_bytes(count: int) -> bytes:
    """What does not get smaller in an archive."""
    import random

    return random.Random(7).randbytes(count)


def test_what_is_no_archive_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(b"\x89HDF\r\n")
    with pytest.raises(zipfile.BadZipFile):
        read_keras(path, trust=True)
