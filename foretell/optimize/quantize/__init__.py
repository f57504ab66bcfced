"""Fewer bits for the numbers of a model: int8 and int4 weights, int8 activations, halves; as far as the budget allows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foretell.errors import Setup
from foretell.evidence.case import Case, Evidence, Made, open_case
from foretell.evidence.progress import SILENT, Progress
from foretell.evidence.publish import carry_out, check_target
from foretell.evidence.verdict import Wanted
from foretell.optimize import DISTILL
from foretell.optimize.quantize.graph import Graph, read_graph
from foretell.optimize.quantize.layers import Choice, choose_layers
from foretell.optimize.quantize.method import Method
from foretell.plugins import Plugin, load_plugin, needs_extra

Name = Literal["int8", "int8-dynamic", "int8-weights", "int4-weights", "float16", "float16-weights", "bfloat16-weights"]
Calibration = Literal["minmax", "entropy", "percentile"]

METHODS: Mapping[str, Plugin] = {
    "int8": Plugin("foretell.optimize.quantize.static:static", "optimize"),
    "int8-dynamic": Plugin("foretell.optimize.quantize.dynamic:dynamic", "optimize"),
    "int8-weights": Plugin("foretell.optimize.quantize.weights:int8_weights", "optimize"),
    "int4-weights": Plugin("foretell.optimize.quantize.weights:int4_weights", "optimize"),
    "float16": Plugin("foretell.optimize.quantize.halves:float16", "optimize"),
    "float16-weights": Plugin("foretell.optimize.quantize.halves:float16_weights", "optimize"),
    "bfloat16-weights": Plugin("foretell.optimize.quantize.halves:bfloat16_weights", "optimize"),
}


@dataclass(frozen=True)
class Quantizing:
    """``method`` is one of ``METHODS``. The rest but ``leave_out`` is for int8 with calibrated activations.

    ``rows`` are for calibrating; ``per_channel``: each channel of a weight has a scale of its own; ``seven_bits``: weights of 7
    bits, for processors whose 8-bit products may saturate (AVX2). ``leave_out``: layers that stay as they are, by name.
    """

    method: Name = "int8"
    calibration: Calibration = "minmax"
    rows: int = 256
    per_channel: bool = True
    seven_bits: bool = False
    leave_out: tuple[str, ...] = ()


def quantize(
    model: str | Path,
    data: Path,
    target: Path,
    options: Quantizing = Quantizing(),
    wanted: Wanted = Wanted(),  # noqa: B008 - frozen
    progress: Progress = SILENT,
    tell: Callable[[Evidence], None] = lambda evidence: None,
) -> Evidence:
    """A quantized form of an ONNX ``model`` at ``target``, with its report beside it, if it is good enough; else nothing.

    Layers are left as they are, the most sensitive first, until the loss on the rows to fit on holds half of the budget.
    ``tell`` is shown the evidence whatever the verdict. Raises Setup: as ``open_case``, ``wrong_target``, ``unsupported_graph``
    and ``too_few_rows`` before the work, ``not_better`` after it.
    """
    check_target(Path(model), target)
    with needs_extra("quantizing", "optimize"):
        import onnx  # noqa: F401 - here, so that the refusal comes first
    case = open_case(model, data, wanted, progress)

    def make(place: Path) -> Evidence:
        check_target(case.source, target)
        return quantize_case(case, place, options, progress)

    return carry_out(case, target, make, tell)


def quantize_case(case: Case, target: Path, options: Quantizing, progress: Progress = SILENT) -> Evidence:
    """Writes the candidate to ``target``, whose folder is for all that is made on the way, and judges it."""
    graph = read_graph(case.source, target.parent)
    method: Method = load_plugin("method of quantizing", METHODS, options.method)(graph, case, options, progress)
    _check_layers(graph, method, options)
    choice = choose_layers(case, method, options.leave_out, target.parent, progress)
    progress.say("writing the model")
    method.write(choice.taken, target)
    made = Made(target, "quantize", _how(options, choice, case), choice.noises, method.remarks)
    return case.conclude(made, progress)


def _check_layers(graph: Graph, method: Method, options: Quantizing) -> None:
    names = [layer.name for layer in method.layers]
    if not names:
        kinds = ", ".join(sorted({node.op_type for node in graph.model.graph.node}))
        raise Setup(
            "unsupported_graph",
            f"{graph.source.name} has nothing that {options.method} could change: it has {kinds}: {DISTILL}",
        )
    for name in options.leave_out:
        if name not in names:
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise Setup("wrong_setting", f"--leave-out {name!r}: there is no such layer, these are: {shown}")


def _how(options: Quantizing, choice: Choice, case: Case) -> dict[str, str]:
    how: dict[str, str] = {"method": options.method}
    if options.method == "int8":
        rows = min(options.rows, len(case.fit))
        how |= {"calibration": f"{options.calibration} on {rows} rows", "per channel": "yes" if options.per_channel else "no"}
        how |= {"weights": "7 bits"} if options.seven_bits else {}
    how["layers changed"] = f"{len(choice.taken)} of {len(choice.taken) + len(choice.left)}"
    if choice.left:
        how["layers left as they were"] = ", ".join(choice.left)
    return how
