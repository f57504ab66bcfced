"""Tells what a file of PyTorch is, and which exported programs are numbers and checked names alone, without PyTorch.

PyTorch's own reader of ``.pt2`` files unpickles, evaluates expressions, writes names into code that it runs, and looks
operators up in all of its modules (https://docs.pytorch.org/docs/stable/export/api_reference.html, `torch.export.load`: "Never
load data from an untrusted source"). So it is given a copy, made here, of what cannot do any of that.
"""

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

EXPORTED, SCRIPT, PICKLED, COMPILED = "exported program", "TorchScript", "pickle", "compiled program"
MOST_MEMBERS = 100_000
MOST_PROGRAM_BYTES = 512 * 2**20
MOST_CODE_BYTES = 256 * 2**20
_MOST_TEXT = 65_536
_PAYLOAD = re.compile(r"data/(weights/weight_\d+|constants/tensor_\d+)")
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PROGRAM = "models/model.json"
_KEPT = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")
_OLD = "serialized_exported_program.json"
_CPU = {"type": "cpu", "index": None}
_SAMPLES = "data/sample_inputs/model.pt"

_NAME = re.compile(r"[\w.\-]*", re.ASCII)
_VERSION = re.compile(r"[\w.+<=\-]*", re.ASCII)
_ATEN = re.compile(r"torch\.ops\.aten\.((?!__)\w+|__(?:i?and|i?or|i?xor|i?[lr]shift)__)\.(?!_)\w+", re.ASCII)
_OTHERS = re.compile(
    r"torch\.ops\.(?:prims|quantized_decomposed)\.(?!_)\w+\.(?!_)\w+"
    r"|torch\.ops\.higher_order\.(?:cond|while_loop|map_impl|scan|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.(?:sym_(?:float|int|max|min|not|ite|sum)|_sym_sqrt)"
    r"|math\.(?:ceil|floor|trunc|sqrt|pow|log|log2|exp)"
    r"|_operator\.(?:add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_|xor|lshift|rshift)",
    re.ASCII,
)
_NO_ATEN = frozenset(
    {
        "backward",
        "dist_backward",
        "from_file",
        "local_value",
        "manual_seed",
        "save",
        "seed",
        "set_grad_enabled",
        "to_here",
        "warn",
    }
)
"""Operators that touch files, other machines, or the state of the whole process."""
_CONTAINERS = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})
_SIZE = re.compile(r"L(?:\['\w+'\]|\[\d+\])+\.size\(\)\[\d+\]", re.ASCII)
_GUARD = re.compile(r"(?:[\d\s+*/%()<>=!,-]|\b(?:and|or|not|Eq|Ne|Mod|PythonMod|FloorDiv|Min|Max|min|max)\b)*")
_FUNCTION = re.compile(
    "Symbol|Integer|Add|Mul|Min|Max|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|CeilToInt|FloorToInt|TruncToInt|IntTrueDiv|ToFloat"
    "|Rational|Pow|And|Or|Not|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality|LessThan|StrictLessThan|GreaterThan|StrictGreaterThan|Where"
    "|Identity|ModularIndexing"
)
_SYMBOL = re.compile(r"[a-z]+\d+")


class NotPlain(Exception):
    """Something in the file that could run code when it is loaded: the message says what."""


def kind_of(path: Path) -> str:
    """EXPORTED, SCRIPT, PICKLED or COMPILED, by the names in the archive alone. Raises ValueError for what is none of them."""
    with path.open("rb") as file:
        head = file.read(4)
    if head[:1] == b"\x80":
        return PICKLED
    if head != b"PK\x03\x04":
        raise ValueError("it is no archive of PyTorch, which is a ZIP file")
    with _opened(path) as archive:
        names = set(_members(archive, path))
    if any(name.startswith("data/aotinductor/") for name in names):
        return COMPILED
    if any(name.startswith("models/") for name in names) or _OLD in names:
        return EXPORTED
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return SCRIPT
    if "data.pkl" in names:
        return PICKLED
    raise ValueError("it is a ZIP file, but holds neither an exported program nor TorchScript")


def plain_copy(path: Path) -> io.BytesIO:
    """The archive of an exported program, without its sample inputs and all that only describes it.

    Raises NotPlain, and ValueError or KeyError for a file that is broken.
    """
    with _opened(path) as archive:
        members = _members(archive, path)
        if any(name.startswith("data/weights/") and name.endswith(".pt") for name in members) or _OLD in members:
            raise NotPlain(
                "its weights are a pickle, as earlier releases of PyTorch wrote them: export it again with a newer one"
            )
        program = _checked(_json(archive, members, _PROGRAM))
        configs = {name: _checked(_json(archive, members, name)) for name in _CONFIGS}
        for name, config in configs.items():
            _check_payloads(name, config, members)
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as made:
            for name, member in members.items():
                if name in _KEPT or _PAYLOAD.fullmatch(name):
                    made.writestr(f"model/{name}", archive.read(member))
            made.writestr(f"model/{_SAMPLES}", b"")
            for name, content in {_PROGRAM: program, **configs}.items():
                made.writestr(f"model/{name}", json.dumps(content))
    copy.seek(0)
    return copy


def operators(path: Path) -> set[str]:
    """The operators of an exported program: ``aten.conv2d.default``."""
    with _opened(path) as archive:
        program = _json(archive, _members(archive, path), _PROGRAM)
    return {value.removeprefix("torch.ops.") for key, value in _texts(program) if key == "target" and isinstance(value, str)}


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"it is cut short, or no archive at all: {error}") from error
    if min((info.header_offset for info in archive.infolist()), default=0):  # an archive inside it was found, not its own end
        archive.close()
        raise ValueError("it is cut short")
    return archive


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """What the archive holds, by names without the folder that PyTorch puts all into; nothing is unpacked yet."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MOST_MEMBERS:
        raise ValueError(f"it holds {len(infos):,} files, at most {MOST_MEMBERS:,} are read")
    _check_sizes(infos, path.stat().st_size)
    roots = {PurePosixPath(info.filename).parts[0] for info in infos}
    nested = len(roots) == 1 and all(len(PurePosixPath(info.filename).parts) > 1 for info in infos)
    names = [info.filename.partition("/")[2] if nested else info.filename for info in infos]
    if len(set(names)) < len(names):
        raise ValueError("it holds two files of one name")
    return dict(zip(names, infos, strict=True))


def _check_sizes(infos: Sequence[zipfile.ZipInfo], size: int) -> None:
    """PyTorch compresses code alone: all else is as large as it says, so nothing swells when it is unpacked."""
    stored = sum(info.file_size for info in infos if info.compress_type == zipfile.ZIP_STORED)
    code = sum(info.file_size for info in infos if info.compress_type != zipfile.ZIP_STORED)
    if stored > size or code > MOST_CODE_BYTES:
        raise ValueError(f"its files would take {stored + code:,} bytes, and it has {size:,} itself")


def _json(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> Any:
    if name not in members:
        raise ValueError(f"it holds no {name}")
    member = members[name]
    if member.file_size > MOST_PROGRAM_BYTES:
        raise ValueError(f"{member.filename} has {member.file_size:,} bytes, at most {MOST_PROGRAM_BYTES:,} are read")
    try:
        return json.loads(archive.read(member))
    except RecursionError:
        raise ValueError(f"{member.filename} is nested too deeply") from None
    except zipfile.BadZipFile as error:
        raise ValueError(f"{member.filename} is damaged: {error}") from error


def _check_payloads(name: str, config: Any, members: Mapping[str, zipfile.ZipInfo]) -> None:
    folder = name.rpartition("/")[0]
    for payload in config["config"].values():
        if payload["use_pickle"] or not _PAYLOAD.fullmatch(f"{folder}/{payload['path_name']}"):
            raise NotPlain(f"it keeps {payload['path_name']!r} as a pickle")
        held = members.get(f"{folder}/{payload['path_name']}")
        lengths = [size["as_int"] for size in payload["tensor_meta"]["sizes"]]
        if held is None or (not held.file_size and 0 not in lengths):
            raise ValueError(f"it holds nothing of {payload['path_name']!r}")


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every text of a JSON document with the key that it stands under."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value


def _checked(value: Any, key: str = "") -> Any:
    """A document whose texts are all of a kind that cannot do anything, for the CPU; what only describes is left out."""
    if key == "metadata":
        return {}
    if key == "custom_obj_values" and value:
        raise NotPlain("it holds objects of C++ classes")
    if key in ("device", "as_device") and isinstance(value, dict):
        return _CPU
    if isinstance(value, dict):
        for name in value:
            _require(_NAME.fullmatch(name), "a name", name)
        return {name: _checked(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_checked(inner, key) for inner in value]
    if isinstance(value, str):
        _CHECKS.get(key, _check_name)(value)
    return value


def _require(fits: object, what: str, text: str) -> None:
    if not fits:
        raise NotPlain(f"{what} in it is {text[:100]!r}")


def _check_name(text: str) -> None:
    _require(_NAME.fullmatch(text), "a name", text)


def _check_version(text: str) -> None:
    _require(_VERSION.fullmatch(text), "a version", text)


def _check_text(text: str) -> None:
    _require(len(text) <= _MOST_TEXT and text.isprintable(), "a text", text)


def _check_operator(text: str) -> None:
    aten = _ATEN.fullmatch(text)
    _require(aten[1] not in _NO_ATEN if aten else _OTHERS.fullmatch(text), "an operator", text)


def _check_guard(text: str) -> None:
    left = _SIZE.sub("1", text)
    _require(len(text) <= _MOST_TEXT and "**" not in left and _GUARD.fullmatch(left), "a condition", text)


def _check_containers(text: str) -> None:
    """How inputs and outputs are put together: tuples, lists and dicts of plain names."""
    if not text:
        return
    protocol, spec = json.loads(text)
    todo = [spec]
    while todo:
        each = todo.pop()
        context = json.loads(each["context"]) if each["context"] is not None else None
        plain = context is None or (isinstance(context, list) and all(isinstance(key, str) for key in context))
        _require(protocol == 1 and each["type"] in _CONTAINERS and plain, "a container", str(each["type"]))
        todo.extend(each["children_spec"])


def _check_expression(text: str) -> None:
    """A size as SymPy writes it: ``Mul(Integer(2), Symbol('s0', positive=True, integer=True))``."""
    _require(len(text) <= 10_000, "an expression", text)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise NotPlain(f"an expression in it is {text[:100]!r}") from None
    for node in ast.walk(tree):
        _require(_is_arithmetic(node), "an expression", text)


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and (node.func.id != "Pow" or _is_small_power(node))
    if isinstance(node, ast.Name):
        return (_FUNCTION.fullmatch(node.id) or _SYMBOL.fullmatch(node.id)) is not None
    if isinstance(node, ast.Constant):
        kept = isinstance(node.value, int) and abs(node.value) < 2**63
        return kept or (isinstance(node.value, str) and _SYMBOL.fullmatch(node.value) is not None)
    if isinstance(node, ast.keyword):
        return node.arg in ("positive", "integer", "nonnegative", "nonzero", "evaluate")
    return isinstance(
        node, ast.Expression | ast.BinOp | ast.UnaryOp | ast.Add | ast.Sub | ast.Mult | ast.USub | ast.FloorDiv | ast.Load
    )


def _is_small_power(call: ast.Call) -> bool:
    try:
        return 0 <= int(ast.unparse(call.args[1]).removeprefix("Integer(").removesuffix(")")) <= 8
    except (ValueError, IndexError):
        return False


_CHECKS = {
    "as_string": _check_text,
    "target": _check_operator,
    "as_operator": _check_operator,
    "expr_str": _check_expression,
    "guards_code": _check_guard,
    "in_spec": _check_containers,
    "out_spec": _check_containers,
    "torch_version": _check_version,
}
