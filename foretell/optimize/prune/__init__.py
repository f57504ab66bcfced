"""``foretell prune``: whole channels, or single weights, that a model can do without go until the budget is used."""

from collections.abc import Callable
from pathlib import Path

from foretell.convert import Wanted as Alike
from foretell.convert import convert
from foretell.errors import Setup
from foretell.evidence.case import Case, Evidence, Made, open_case
from foretell.evidence.progress import SILENT, Progress
from foretell.evidence.publish import carry_out, check_target
from foretell.evidence.verdict import Wanted
from foretell.optimize.prune.pruning import DEFAULTS, Pruning
from foretell.plugins import needs_extra

FIT_SHARE = 0.7
"""Of the rows: for choosing and fitting. The rest judges."""


def prune(
    model: str | Path,
    data: Path,
    target: Path,
    options: Pruning = DEFAULTS,
    wanted: Wanted = Wanted(),  # noqa: B008 - frozen
    progress: Progress = SILENT,
    tell: Callable[[Evidence], None] = lambda evidence: None,
) -> Evidence:
    """A smaller form of ``model`` as ONNX at ``target``, with its report beside it, if it is good enough; else nothing.

    ``tell`` is shown the evidence whatever the verdict. Raises Setup before the long work: as ``open_case`` and
    ``check_target``, ``unsupported_graph`` with what stops every layer, ``wrong_setting``, ``missing_extra``; and
    ``not_better`` after it.
    """
    _check(options, wanted)
    check_target(Path(model), target)
    case = open_case(model, data, wanted, progress, FIT_SHARE)
    return carry_out(case, target, lambda place: prune_case(case, place, options, progress), tell)


def prune_case(case: Case, target: Path, options: Pruning, progress: Progress = SILENT) -> Evidence:
    """Writes the best candidate to ``target``, whose folder is for all that is made on the way, and judges it."""
    with needs_extra("pruning", "optimize"):
        from foretell.optimize.prune.channels import search_channels
        from foretell.optimize.prune.sparse import search_weights
    source = _as_onnx(case, target.parent)
    search = search_weights if options.how == "weights" else search_channels
    tried = search(case.inside(seed=options.seed), source, target, options, progress)
    for file in tried.path.parent.iterdir():  # the model, and the data of a large one
        file.rename(target.parent / file.name)
    return case.conclude(Made(target, "prune", tried.how, tried.trouble), progress)


def _check(options: Pruning, wanted: Wanted) -> None:
    if options.how == "weights" and wanted.aim != "size":
        text = f"single weights at zero make a file smaller, and no runtime here faster: they are of no use for {wanted.aim}"
        raise Setup("wrong_setting", f"{text}. Ask for --for size, or take away whole channels: --what channels")
    if not 0 < options.sparsity < 1 or options.steps < 1 or options.epochs < 0:
        raise Setup("wrong_setting", "the sparsity is above 0 and below 1, steps are at least 1, epochs at least 0")
    if options.epochs:
        with needs_extra("training after pruning (--epochs)", "torch"):
            import torch  # noqa: F401


def _as_onnx(case: Case, place: Path) -> Path:
    """The original as ONNX: itself, or a conversion that answers alike."""
    if case.source.suffix.lower() == ".onnx":
        return case.source
    path = place / "original.onnx"
    convert(case.source, path, Alike())
    return path
