"""Reads the models.config of TensorFlow Serving: which folders hold models, under which names, versions and labels.

https://github.com/tensorflow/serving/blob/master/tensorflow_serving/config/model_server_config.proto
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from foretell.errors import Setup
from foretell.repository.prototext import Message, read_prototext
from foretell.repository.versions import VersionsTable, read_policy

log = logging.getLogger("foretell")
SUFFIX = ".config"
_READ = frozenset({"name", "base_path", "model_platform", "model_version_policy", "version_labels"})


@dataclass(frozen=True)
class TfsModel:
    """One model of a models.config; ``folder`` holds its versions."""

    name: str
    folder: Path
    versions: VersionsTable


def read_tfs_config(file: Path) -> list[TfsModel]:
    """The models that a models.config lists; a relative ``base_path`` starts at the folder of the file.

    Raises Setup: ``broken_config`` or ``unsupported_config``, naming the file and the line.
    """
    root = read_prototext(file)
    listed = root.message("model_config_list")
    if listed is None:
        raise root.refusal("this is no models.config: it has no model_config_list with a config for each model")
    _note(root, {"model_config_list"})
    models = [_model(each) for each in listed.messages("config")]
    if not models:
        raise listed.refusal("model_config_list names no model: add a config with name and base_path")
    return models


def _model(message: Message) -> TfsModel:
    name, base = message.text("name"), message.text("base_path")
    if not name or not base:
        raise message.refusal("a model needs both name and base_path, this lacks one")
    if "://" in base or "\0" in base:
        text = f"{message.file}, line {message.line_of('base_path')}: base_path {base!r} is not a folder of this machine"
        raise Setup("unsupported_config", f"{text}: copy the models to a folder, and name that")
    _note(message, _READ)
    versions = read_policy(message.message("model_version_policy"))
    versions = msgspec.structs.replace(versions, labels=_labels(message))
    versions.check(message.file)
    return TfsModel(name, message.file.parent / base, versions)


def _labels(message: Message) -> dict[str, int]:
    labels: dict[str, int] = {}
    for entry in message.messages("version_labels"):
        label, version = entry.text("key"), entry.whole("value")
        if version is None or label in labels:
            raise entry.refusal("version_labels takes a key and a value, and each key once")
        labels[label] = version
    return labels


def _note(message: Message, read: frozenset[str] | set[str]) -> None:
    for name in message.fields:
        if name not in read:
            log.info("%s, line %d: %s has no effect here", message.file, message.line_of(name), name)
