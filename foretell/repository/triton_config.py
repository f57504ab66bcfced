"""Reads a Triton model's config.pbtxt: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto.

What changes answers is read or refused; what is only about how fast they come is noted, for the log.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foretell.errors import Setup
from foretell.repository.prototext import Message, read_prototext
from foretell.repository.versions import VersionsTable, read_policy
from foretell.settings import EngineSettings, override
from foretell.storage import check_inside
from foretell.tensors import Datatype

FILE_NAME = "config.pbtxt"
MOST_STEPS = 256
MODEL_FILE = "model.onnx"
_DATATYPES = {f"TYPE_{'STRING' if each is Datatype.BYTES else each}": each for each in Datatype}
_PLATFORMS = {"onnxruntime_onnx": "onnxruntime", "ensemble": "ensemble"}
_READ = frozenset(
    {
        *("name", "platform", "backend", "default_model_filename", "version_policy", "max_batch_size", "input", "output"),
        *("dynamic_batching", "instance_group", "optimization", "model_transaction_policy", "ensemble_scheduling"),
    }
)
_WITHOUT_EFFECT = frozenset(
    ["parameters", "model_warmup", "response_cache", "metric_tags", "model_metrics", "cc_model_filenames", "runtime"]
)
_REFUSED = {
    "sequence_batching": "keeps state between requests",
    "batch_input": "gives the model an input that is made from the batch",
    "batch_output": "makes an output from the batch",
    "model_operations": "loads libraries of custom operators",
    "model_repository_agents": "has the files changed or checked by a plugin of Triton's",
}
_REFUSED_OF_TENSORS = {
    "allow_ragged_batch": "rows of different lengths in one batch",
    "is_shape_tensor": "a shape tensor",
    "optional": "an input that may be left out",
    "is_non_linear_format_io": "a tensor in a format of TensorRT's own",
}


@dataclass(frozen=True)
class TritonTensor:
    """One input or output. ``dims`` leave out the row axis if the model has one; ``inner`` is what the model itself sees."""

    name: str
    dtype: Datatype
    dims: tuple[int | None, ...]
    inner: tuple[int | None, ...]
    labels_file: str
    line: int


@dataclass(frozen=True)
class TritonStep:
    """One step of an ensemble: a model of the repository, and which of the ensemble's tensors is which of its own."""

    model: str
    version: str | None
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    line: int


@dataclass(frozen=True)
class TritonConfig:
    """One config.pbtxt. ``rows`` is None where the model itself decides. ``notes`` say what of it has no effect here."""

    file: Path
    most_rows: int
    rows: bool | None
    inputs: tuple[TritonTensor, ...]
    outputs: tuple[TritonTensor, ...]
    steps: tuple[TritonStep, ...]
    model_file: str
    versions: VersionsTable
    max_wait_s: float
    notes: tuple[str, ...]

    @property
    def engine(self) -> dict[str, object]:
        """What it says of batching, as overrides of EngineSettings."""
        rows: dict[str, object] = {"max_batch_rows": self.most_rows} if self.most_rows else {}
        return {**rows, "max_wait_s": self.max_wait_s}


def read_triton_config(folder: Path) -> TritonConfig | None:
    """The folder's config.pbtxt; None if it has none.

    Raises Setup: ``broken_config`` or ``unsupported_config``, naming the file and the line.
    """
    file = folder / FILE_NAME
    if not file.exists():
        return None
    check_inside(file, folder)
    root = read_prototext(file)
    name, real = root.text("name"), folder.resolve().name
    if name not in {"", real}:
        raise root.refusal(f"the model is named {name!r}, but its folder {real!r}: let them agree", root.line_of("name"))
    for field, reason in _REFUSED.items():
        if root.fields.get(field):
            raise _unsupported(
                root, field, f"{field} {reason}, which is not done here: remove it, or serve the model with Triton"
            )
    steps = _steps(root) if _backend(root) == "ensemble" else ()
    most_rows = root.whole("max_batch_size") or 0
    inputs, outputs = _tensors(root, "input"), _tensors(root, "output")
    config = TritonConfig(
        file,
        most_rows,
        bool(most_rows) if inputs or outputs or root.fields.get("max_batch_size") else None,
        inputs,
        outputs,
        steps,
        _model_file(root),
        read_policy(root.message("version_policy")),
        _max_wait_s(root),
        (*_hardware(root), *_notes(root)),
    )
    override(EngineSettings(), config.engine, f"dynamic_batching or max_batch_size of {file}")
    return config


def _unsupported(message: Message, field: str, text: str) -> Setup:
    return Setup("unsupported_config", f"{message.file}, line {message.line_of(field)}: {text}")


def _backend(root: Message) -> str:
    """``onnxruntime`` or ``ensemble``."""
    platform, named = root.text("platform"), root.text("backend")
    backend = named or _PLATFORMS.get(platform, platform) or "onnxruntime"
    if backend == "python":
        raise _unsupported(
            root,
            "backend",
            "a model of Triton's python backend is code for Triton's own interface, which is not run here: write it as a "
            'function with @foretell.model in app.py, and name it in pipeline.toml, as [model] file = "app.py:model"',
        )
    if backend not in _PLATFORMS.values():
        field = "backend" if named else "platform"
        raise _unsupported(
            root, field, f"{field} {backend!r} is not served here, only onnxruntime and ensembles are: export the model to ONNX"
        )
    if platform and named and _PLATFORMS.get(platform) != named:
        raise root.refusal(
            f"platform {platform!r} and backend {named!r} are not the same: remove one", root.line_of("platform")
        )
    if (backend == "ensemble") != bool(root.fields.get("ensemble_scheduling")):
        raise root.refusal('an ensemble needs both platform: "ensemble" and ensemble_scheduling, this has one of them')
    return backend


def _tensors(root: Message, field: str) -> tuple[TritonTensor, ...]:
    tensors = tuple(_tensor(each, field) for each in root.messages(field))
    seen = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise root.refusal(f"{field} {tensor.name!r} is there twice: remove one", tensor.line)
        seen.add(tensor.name)
    return tensors


def _tensor(message: Message, field: str) -> TritonTensor:
    name, datatype = message.text("name"), message.word("data_type")
    if not name:
        raise message.refusal(f'this {field} has no name: add a line like name: "x"')
    for flag, meaning in _REFUSED_OF_TENSORS.items():
        if message.flag(flag):
            raise _unsupported(message, flag, f"{field} {name!r} is {meaning}, which is not done here: remove {flag}")
    if datatype not in _DATATYPES:
        known = ", ".join(_DATATYPES)
        raise message.refusal(
            f"{field} {name!r} has data_type {datatype or 'missing'}, known are {known}", message.line_of("data_type")
        )
    dims = _dims(message, "dims")
    reshape = message.message("reshape")
    inner = dims if reshape is None else _dims(reshape, "shape")
    if inner != dims and (None in dims or None in inner or math.prod(map(_known, dims)) != math.prod(map(_known, inner))):
        raise message.refusal(
            f"{field} {name!r} of dims {list(dims)} is reshaped to {list(inner)}: both need known sizes and as many values",
            message.line_of("reshape"),
        )
    return TritonTensor(name, _DATATYPES[datatype], dims, inner, message.text("label_filename"), message.line)


def _dims(message: Message, field: str) -> tuple[int | None, ...]:
    sizes = message.wholes(field, least=-1)
    if 0 in sizes or len(sizes) > 32:
        raise message.refusal(f"{field} takes up to 32 sizes, each from 1 on or -1 for any", message.line_of(field))
    return tuple(None if size == -1 else size for size in sizes)


def _known(size: int | None) -> int:
    return size or 1


def _steps(root: Message) -> tuple[TritonStep, ...]:
    scheduling = root.message("ensemble_scheduling")
    steps = tuple(_step(each) for each in scheduling.messages("step")) if scheduling else ()
    if not steps or len(steps) > MOST_STEPS:
        raise root.refusal(f"an ensemble takes 1 to {MOST_STEPS} steps, not {len(steps)}", root.line_of("ensemble_scheduling"))
    return steps


def _step(message: Message) -> TritonStep:
    model, version = message.text("model_name"), message.whole("model_version", least=-1)
    if not model:
        raise message.refusal('this step names no model: add a line like model_name: "x"')
    inputs, outputs = _pairs(message, "input_map"), _pairs(message, "output_map")
    return TritonStep(model, None if version in {None, -1} else str(version), inputs, outputs, message.line)


def _pairs(message: Message, field: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for entry in message.messages(field):
        key = entry.text("key")
        if key in pairs:
            raise message.refusal(f"{field} names {key!r} twice: remove one", entry.line)
        pairs[key] = entry.text("value")
    return pairs


def _model_file(root: Message) -> str:
    name = root.text("default_model_filename") or MODEL_FILE
    if name in {".", ".."} or set(name) & set("/\\\0"):
        raise root.refusal(
            f"default_model_filename {name!r} is not the plain name of a file", root.line_of("default_model_filename")
        )
    return name


def _max_wait_s(root: Message) -> float:
    batching = root.message("dynamic_batching")
    return ((batching.whole("max_queue_delay_microseconds") or 0) if batching else 0) / 1e6


def _hardware(root: Message) -> list[str]:
    """Refuses what needs another device or provider than the CPU: no silent fallback."""
    notes = []
    for group in root.messages("instance_group"):
        kind, count = group.word("kind"), group.whole("count", least=1) or 1
        if kind == "KIND_GPU" or group.fields.get("gpus"):
            cure = "models run on the CPU here: write KIND_CPU or KIND_AUTO, and remove gpus"
            raise _unsupported(root, "instance_group", f"instance_group asks for a GPU, but {cure}")
        if count > 1:
            notes.append(f"instance_group count {count} has no effect: one instance serves all callers")
    optimization = root.message("optimization")
    if optimization and optimization.fields.get("execution_accelerators"):
        cure = "onnxruntime's own CPU provider runs the model here: remove execution_accelerators"
        raise _unsupported(optimization, "execution_accelerators", f"an execution accelerator is asked for, but {cure}")
    policy = root.message("model_transaction_policy")
    if policy and policy.flag("decoupled"):
        raise _unsupported(policy, "decoupled", "a decoupled model gives any number of answers: here each request has one")
    return notes


def _notes(root: Message) -> list[str]:
    notes = [f"line {root.line_of(name)}: {name} has no effect here" for name in root.fields if name in _WITHOUT_EFFECT]
    unknown = [name for name in root.fields if name not in _READ | _WITHOUT_EFFECT | set(_REFUSED)]
    notes += [f"line {root.line_of(name)}: {name} is not known here and has no effect" for name in unknown]
    batching = root.message("dynamic_batching")
    others = [name for name in batching.fields if name != "max_queue_delay_microseconds"] if batching else []
    return notes + [f"dynamic_batching {name} has no effect: every batch is as large as what waits" for name in others]
