"""Reads just enough of an ONNX file to describe it, and to keep its external data inside its own folder.

A runtime follows the paths in a model file; so they are checked before a runtime is given the file. Only the protobuf
wire format is read here (https://protobuf.dev/programming-guides/encoding/), for the fields of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto that lead to tensors, without building any message.
"""

import mmap
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from foretell.errors import Setup

Buffer = bytes | mmap.mmap
Span = tuple[int, int]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_CHILDREN: Mapping[str, Mapping[int, str]] = {  # message -> field number -> message
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_OPERATOR = 4  # of a Node
_KIND = (_OPERATOR, 7)  # and its domain
_LEARNT = ("Linear", "SVM", "Scaler", "Tree")  # of ai.onnx.ml: they keep what was learnt in attributes, which are not counted
_TO_NODES: Mapping[str, Mapping[int, str]] = {  # the same, as far as there are nodes below
    message: {number: child for number, child in children.items() if "Tensor" not in child and child != "Entry"}
    for message, children in _CHILDREN.items()
}


def describe_onnx(source: Path | bytes) -> dict[str, str]:
    """IR version, operator sets, producer, size and kind of quantization of an ONNX file, for people.

    Raises ValueError when this is not protobuf.
    """
    if isinstance(source, bytes):
        return _describe(source)
    with source.open("rb") as file, _mapped(file.fileno()) as data:
        return _describe(data)


def check_external_data(source: Path | bytes) -> None:
    """That every external tensor of an ONNX file is a real file in that file's folder: no ``..``, absolute path or link.

    A model in memory has no folder, and may have no external data. Raises Setup ``outside_folder`` or ``missing_file``,
    and ValueError when this is not protobuf.
    """
    if isinstance(source, bytes):
        for location in external_locations(source):
            raise Setup("outside_folder", f"the model's data file {location!r} cannot be read: load the model by its path")
        return
    with source.open("rb") as file, _mapped(file.fileno()) as data:
        for location in set(external_locations(data)):
            _check_location(location, source)


def data_files(source: Path) -> set[Path]:
    """The files beside an ONNX file that hold some of its tensors. Raises ValueError when this is not protobuf."""
    with source.open("rb") as file, _mapped(file.fileno()) as data:
        return {source.parent / location for location in external_locations(data)}


def operators(data: Buffer) -> Iterator[str]:
    """The operator of every node, in subgraphs and functions too. Raises ValueError for what is not protobuf."""
    todo: list[tuple[str, Span]] = [("Model", (0, len(data)))]
    while todo:
        message, span = todo.pop()
        children = _TO_NODES[message]
        for number, (begin, end) in _submessages(data, span):
            if message == "Node" and number == _OPERATOR:
                yield data[begin:end].decode("utf-8", "replace")
            elif number in children:
                todo.append((children[number], (begin, end)))


def external_locations(data: Buffer) -> Iterator[str]:
    """The path of every external tensor, wherever in the model it stands. Raises ValueError for what is not protobuf."""
    if data.find(b"location") < 0:  # the key stands literally in the file, or there is no external data
        return
    todo: list[tuple[str, Span]] = [("Model", (0, len(data)))]
    while todo:
        message, span = todo.pop()
        if message == "Entry":
            yield from _location(data, span)
            continue
        children = _CHILDREN[message]
        todo.extend((children[number], inner) for number, inner in _submessages(data, span) if number in children)


def _location(data: Buffer, span: Span) -> Iterator[str]:
    """The values of one StringStringEntry if its key is ``location``; of a repeated field, any may count."""
    parts = [(number, data[begin:end]) for number, (begin, end) in _submessages(data, span)]
    if (1, b"location") in parts:
        yield from (value.decode("utf-8") for number, value in parts if number == 2)


def _check_location(location: str, model: Path) -> None:
    """Looks at every part of the path with ``lstat``, so that no link is followed."""
    parts = PurePosixPath(location).parts
    refused = not parts or "\\" in location or "\0" in location or PurePosixPath(location).is_absolute() or ".." in parts
    if refused:
        raise _outside(location, model, "is not a plain path below it")
    current = model.parent
    for part in parts:
        current = current / part
        try:
            found = current.lstat()
        except OSError:
            raise Setup("missing_file", f"{model} needs the data file {current}, which does not exist: copy it there") from None
        if stat.S_ISLNK(found.st_mode):
            raise _outside(location, model, "is a symbolic link")
    if not stat.S_ISREG(found.st_mode):
        raise _outside(location, model, "is not a file")
    if found.st_nlink > 1:
        raise _outside(location, model, "is a hard link")


def _outside(location: str, model: Path, why: str) -> Setup:
    return Setup(
        "outside_folder",
        f"{model} names the data file {location[:200]!r}, which {why}; only files inside the model's own folder are read: "
        "put a real copy there, and export the model with a relative path",
    )


def _describe(data: Buffer) -> dict[str, str]:
    facts = {**_header(data), "size": f"{len(data):,} bytes", **_describe_graph(data)}
    if data.find(b"DynamicQuantize") >= 0 and any(name.startswith("DynamicQuantize") for name in operators(data)):
        facts["quantization"] = "dynamic: the rows of a batch share a scale"
    return facts


def _describe_graph(data: Buffer) -> dict[str, str]:
    """How many parameters it stores, its operators, and those outside the standard set, which other runtimes may lack."""
    kinds, parameters = _count_graph(data)
    facts = {"operators": ", ".join(sorted({name for _, name in kinds}))}
    if not any(domain == "ai.onnx.ml" and name.startswith(_LEARNT) for domain, name in kinds):
        facts = {"parameters": f"{parameters:,}", **facts}
    special = sorted(f"{domain}.{name}" for domain, name in kinds if domain not in ("", "ai.onnx"))
    return {**facts, "elsewhere": f"other runtimes may lack {', '.join(special)}"} if special else facts


def _count_graph(data: Buffer) -> tuple[set[tuple[str, str]], int]:
    """The domain and name of every operator, and the number of stored values, in subgraphs and functions too."""
    kinds, parameters = set[tuple[str, str]](), 0
    todo: list[tuple[str, Span]] = [("Model", (0, len(data)))]
    while todo:
        message, span = todo.pop()
        if message == "Tensor":
            parameters += _values(data, span)
            continue
        if message == "Node":
            told = {number: data[begin:end] for number, (begin, end) in _submessages(data, span) if number in _KIND}
            kinds.add((told.get(7, b"").decode("utf-8", "replace"), told.get(_OPERATOR, b"").decode("utf-8", "replace")))
        children = _CHILDREN.get(message, {})
        todo.extend((children[number], inner) for number, inner in _submessages(data, span) if number in children)
    return kinds, parameters


def _values(data: Buffer, span: Span) -> int:
    """How many values a tensor has, by its dimensions: one each, or all in one field."""
    count = 1
    for number, wire, (begin, end) in _fields(data, span):
        if number == 1 and wire == _VARINT:
            count *= begin
        elif number == 1 and wire == _BYTES:
            at = begin
            while at < end:
                size, at = _varint(data, at, end)
                count *= size
    return count


def _header(data: Buffer) -> dict[str, str]:
    facts: dict[str, str] = {}
    opsets = []
    for number, wire, value in _fields(data, (0, len(data))):
        if number == 1 and wire == _VARINT:
            facts["ir_version"] = str(value[0])
        elif number == 2 and wire == _BYTES:
            facts["producer"] = data[slice(*value)].decode("utf-8", "replace")
        elif number == 8 and wire == _BYTES:
            opsets.append(_opset(data, value))
    return {**facts, "opset": _show_opsets(opsets)} if opsets else facts


def _show_opsets(opsets: Sequence[str]) -> str:
    """``17 (ai.onnx.ml 3)``: the plain operators' first, and each once, though a file may repeat them."""
    plain = ", ".join(dict.fromkeys(opset for opset in opsets if " " not in opset))
    others = ", ".join(dict.fromkeys(opset for opset in opsets if " " in opset))
    return f"{plain} ({others})" if plain and others else plain or others


def _opset(data: Buffer, span: Span) -> str:
    """``17``, or ``ai.onnx.ml 3``."""
    domain, version = "", 0
    for number, wire, value in _fields(data, span):
        if number == 1 and wire == _BYTES:
            domain = data[slice(*value)].decode("utf-8", "replace")
        elif number == 2 and wire == _VARINT:
            version = value[0]
    return str(version) if domain in ("", "ai.onnx") else f"{domain} {version}"


def _submessages(data: Buffer, span: Span) -> Iterator[tuple[int, Span]]:
    return ((number, value) for number, wire, value in _fields(data, span) if wire == _BYTES)


def _fields(data: Buffer, span: Span) -> Iterator[tuple[int, int, Span]]:
    """Each field as number, wire type, and where its bytes are; for a varint its value stands in the first place."""
    at, end = span
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at, end)
            yield number, wire, (value, at)
            continue
        if wire == _BYTES:
            size, at = _varint(data, at, end)
        elif wire in {_FIXED64, _FIXED32}:
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"not an ONNX file: wire type {wire} at byte {at}")
        if size > end - at or tag >> 32:
            raise ValueError(f"not an ONNX file, or cut short: a field of {size} bytes at byte {at} of {end}")
        yield number, wire, (at, at + size)
        at += size


def _varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"not an ONNX file, or cut short: a broken number at byte {at}")


def _mapped(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
