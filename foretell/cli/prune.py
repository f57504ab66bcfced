"""``foretell prune``."""

from pathlib import Path
from typing import Any

import click

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.judging import judged, read_wanted, write_and_show


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
    "--epochs",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    help="Training after each cut, with torch.  [default: 0, least squares alone]",
)
@click.option("--seed", metavar="N", type=int, default=0, help="The same seed gives the same model.  [default: 0]")
def prune(model: str, data: Path, target: Path, **options: Any) -> None:
    """Write a smaller MODEL to OUT, and the evidence that it is as good to OUT's .evidence folder.

    Neurons, filters and attention heads go where they tell least on the answers, until the budget is used; the layers behind
    them are fitted anew to the rows. Nothing is written unless the model is 1.1 times better in what --for names, within the
    budget.

    \b
      foretell prune model.onnx -o small.onnx --data rows.csv --for size
      foretell prune model.onnx -o sparse.onnx --data rows.csv --for size --what weights --sparsity 0.95
    """
    wanted = read_wanted(options)
    from foretell.optimize.prune import prune as write
    from foretell.optimize.prune.pruning import Pruning

    write_and_show(lambda progress, tell: write(model, data, target, Pruning(**options), wanted, progress, tell), target)
