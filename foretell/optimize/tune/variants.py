"""The runtimes and precisions in which a model can be served here, each judged by its answers before anything is measured."""

import contextlib
import importlib.util
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from foretell.backends import ModelOptions, describe, recognize
from foretell.convert import CONVERTERS, Wanted, convert
from foretell.errors import ForetellError
from foretell.evidence.case import Case, check_alike
from foretell.evidence.measure import size_on_disk
from foretell.evidence.metrics import Scores
from foretell.optimize.tune.bundle import Bundle, write_toml
from foretell.optimize.tune.space import Option
from foretell.pipeline import Pipeline
from foretell.repository import open_pipeline
from foretell.repository.pipeline_file import FILE_NAME

RUNTIMES = {"onnx": "onnxruntime"}
"""What a backend is called where it is not by its own name."""
NO_THREADS = ("python", "huggingface")
NO_OPERATOR = re.compile(r"No conversion rule found for operations: ((?:[\w.]+)(?:, [\w.]+)*)")
"""What OpenVINO says of a model that it does not know whole."""
MOST_REASON = 300
Maker = Callable[[Path, Path], None]
"""Writes the ONNX model at a path in another precision to a new path. Raises ForetellError when it cannot be."""


@dataclass(frozen=True)
class Variant:
    """One way to compute the model. ``refused`` says why it is not searched; ``scores`` compare it with the original."""

    name: str
    runtime: str
    precision: str
    size_bytes: int = 0
    bundle: Bundle | None = None
    scores: Scores | None = None
    option: Option | None = None
    refused: str = ""


@dataclass(frozen=True)
class Workshop:
    """Makes variants in ``folder``, each judged by the ``case`` of the original. ``makers`` by precision."""

    folder: Path
    case: Case
    makers: Mapping[str, Maker] = field(default_factory=dict)
    only: Collection[str] = ()

    def all(self, original: Bundle, told: Callable[[Variant], None]) -> list[Variant]:
        """The original first; then the others, of which those that failed or are too far off are refused."""
        backend = original.table["model"].get("backend") or recognize(original.file) or "python"
        runtime = RUNTIMES.get(backend, backend)
        found = [self._judged(Variant(runtime, runtime, "as it is", bundle=original), must=True)]
        told(found[0])
        for variant in self._others(original, backend):
            if self.only and variant.name not in self.only:
                continue
            found.append(self._judged(variant))
            told(found[-1])
        return found

    def _others(self, original: Bundle, backend: str) -> Iterator[Variant]:
        """Not judged yet."""
        for precision, file, why in self._onnx_files(original, backend):
            for runtime, other in (("onnxruntime", "onnx"), ("openvino", "openvino")):
                name = runtime if precision == "as it is" else f"{runtime} {precision}"
                if (other == backend and precision == "as it is") or not _is_installed(other):
                    continue
                if file is None:
                    yield Variant(name, runtime, precision, refused=why)
                    continue
                place = self.folder / name.replace(" ", "-")
                try:
                    yield Variant(name, runtime, precision, bundle=original.other(place, file, other))
                except OSError as error:
                    yield Variant(name, runtime, precision, refused=f"it cannot be copied: {error}")

    def _onnx_files(self, original: Bundle, backend: str) -> Iterator[tuple[str, Path | None, str]]:
        """The model as ONNX in each precision, or why there is none."""
        plain, why = self._as_onnx(original, backend)
        if plain is None and not why:
            return
        yield "as it is", plain, why
        for precision, make in self.makers.items():
            if self.only and not any(precision in name.split() for name in self.only):
                continue
            target = self.folder / f"{precision}-model" / f"{original.file.stem}.onnx"
            target.parent.mkdir(parents=True, exist_ok=True)
            if plain is None:
                yield precision, None, why
                continue
            try:
                make(plain, target)
                yield precision, target, ""
            except ForetellError as error:
                yield precision, None, error.message

    def _as_onnx(self, original: Bundle, backend: str) -> tuple[Path | None, str]:
        if backend == "onnx":
            return original.file, ""
        if (backend, "onnx") not in CONVERTERS or recognize(original.file) != backend:
            return None, ""
        target = self.folder / "converted" / f"{original.file.stem}.onnx"
        try:
            convert(original.file, target, Wanted(options=ModelOptions(trust=bool(original.table["model"].get("trust")))))
        except ForetellError as error:
            return None, error.message
        return target, ""

    def _judged(self, variant: Variant, *, must: bool = False) -> Variant:
        """With its scores, or why it is refused. Raises ForetellError for the original, which ``must`` be served."""
        if variant.bundle is None:
            return variant
        try:
            with contextlib.closing(open_variant(variant.bundle)) as pipeline:
                check_alike(self.case.signature, pipeline.model.signature)
                return self._settled(variant, self.case.score(pipeline.model), pipeline)
        except ForetellError as error:
            if must:
                raise
            return replace(variant, refused=refusal(variant.runtime, error, variant.bundle.folder))

    def _settled(self, variant: Variant, scores: Scores, pipeline: Pipeline) -> Variant:
        assert variant.bundle is not None
        backend = variant.bundle.table["model"].get("backend") or recognize(variant.bundle.file) or "python"
        batches = pipeline.signature.rows and "dynamic" not in describe(pipeline.model).get("quantization", "")
        option = Option(variant.name, has_threads=backend not in NO_THREADS, batches=batches)
        allowed = self.case.allowed_loss
        lost = f"{scores.metric} goes from {scores.before:.4f} to {scores.after:.4f}, where a loss of {allowed:.4g} is allowed"
        size = size_on_disk(variant.bundle.file)
        return replace(variant, size_bytes=size, scores=scores, option=option, refused="" if scores.loss <= allowed else lost)


def refusal(runtime: str, error: ForetellError, folder: Path) -> str:
    """Why a runtime does not take the model, which another one does; without the ``folder``, which is gone by the end."""
    if error.code != "broken_model":
        return error.message.replace(f"{folder}/", "")
    reason = " ".join(str(error.__cause__ or error.message).split())
    if missing := NO_OPERATOR.search(reason):
        return f"{runtime} has no operator {missing[1]}, which the model needs"
    return f"{runtime} cannot compute the model ({reason.replace(f'{folder}/', '')[-MOST_REASON:]})"


def open_variant(bundle: Bundle) -> Pipeline:
    """The pipeline that its folder holds. Raises Setup."""
    (bundle.folder / FILE_NAME).write_text(write_toml(bundle.table), encoding="utf-8")
    return open_pipeline(bundle.folder)


def _is_installed(backend: str) -> bool:
    return importlib.util.find_spec({"onnx": "onnxruntime"}.get(backend, backend)) is not None
