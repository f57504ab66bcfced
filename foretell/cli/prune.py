"""``foretell prune``."""

from pathlib import Path
from typing import Any

import click

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.judged import JUDGED, judged, tell, wanted_of
from foretell.cli.reading import read_settings

OWN = ("how", "sparsity", "steps", "epochs", "seed")


@click.command(cls=Sectioned, params=flags_of("prune"), short_help="Take away what a model can do without.")
@click.argument("model", metavar="MODEL")
@judged
@click.option(
    "--what",
    "how",
    type=click.Choice(["channels", "weights"]),
    default="channels",
    help="Whole channels, filters and heads; or single weights (--for size).  [default: channels]",
)
@click.option("--sparsity", metavar="X", type=float, default=0.9, help="Share of single weights to end at.  [default: 0.9]")
@click.option("--steps", metavar="N", type=click.IntRange(1), default=8, help="How many sizes are tried.  [default: 8]")
@click.option(
    "--epochs", metavar="N", type=click.IntRange(0), default=0, help="Training after each cut, with torch.  [default: 0, least squares alone]"
)
def prune(model: str, target: Path, data: Path, **options: Any) -> None:
    """Write a smaller MODEL to OUT, and the evidence that it is as good to OUT's .evidence folder.

    Neurons, filters and attention heads go where they tell least on the answers, until the budget is used; the layers behind them are
    fitted anew to the rows. Nothing is written unless the model is 1.1 times better in what --for names, within the budget.

    \b
      foretell prune model.onnx -o small.onnx --data rows.csv --for size
      foretell prune model.onnx -o sparse.onnx --data rows.csv --for size --what weights --sparsity 0.95
    """
    wanted = wanted_of({name: options.pop(name) for name in JUDGED})
    own = {name: options.pop(name) for name in OWN}
    read_settings(None, options)
    from foretell.evidence.progress import choose_progress
    from foretell.optimize.prune import prune as write
    from foretell.optimize.prune.pruning import Pruning

    with choose_progress(True) as progress:
        evidence = write(model, target, data, wanted, Pruning(**own), progress)
    tell(target, evidence)
