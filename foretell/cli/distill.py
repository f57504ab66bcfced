"""``foretell distill``."""

from pathlib import Path
from typing import Any

import click

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.judging import judged, read_wanted, write_and_show


@click.command(cls=Sectioned, params=flags_of("distill"), short_help="Teach a small model what a large one answers.")
@click.argument("teacher", metavar="TEACHER")
@judged
@click.option(
    "--student", metavar="KIND", default="mlp", help="mlp, trees, cnn, or app.py:Student, a torch module.  [default: mlp]"
)
@click.option("--size", metavar="SIZE", default="25%", help="Largest file: 40KB, or 25% of the teacher's.  [default: 25%]")
@click.option("--temperature", metavar="T", type=float, default=2.0, help="Of the teacher's soft answers.  [default: 2]")
@click.option(
    "--labels", metavar="X", type=float, default=0.1, help="Share of labels, if any, in what is learned.  [default: 0.1]"
)
@click.option("--epochs", metavar="N", type=click.IntRange(1), default=60, help="Rounds of training.  [default: 60]")
@click.option(
    "--between",
    metavar="N",
    type=click.IntRange(0),
    default=3,
    help="Rows made up between others, for each that there is.  [default: 3]",
)
@click.option("--hint", metavar="NAME", help="A value inside an ONNX teacher that the student's last layer is to match.")
@click.option("--seed", metavar="N", type=int, default=0, help="The same seed gives the same model.  [default: 0]")
def distill(teacher: str, data: Path, target: Path, **options: Any) -> None:
    """Write a small model to OUT that answers as TEACHER does, and the evidence to OUT's .evidence folder.

    The teacher may be any model that foretell serves. Rows need no labels: the student learns the teacher's answers.

    \b
      foretell distill model.onnx -o small.onnx --data rows.csv
      foretell distill forest.onnx -o small.onnx --data rows.csv --student trees --size 40KB
      foretell distill model.onnx -o small.onnx --data rows.npz --student app.py:Student
    """
    wanted = read_wanted(options)
    from foretell.optimize.distill import distill as write
    from foretell.optimize.distill.teaching import Distilling

    write_and_show(lambda progress, tell: write(teacher, data, target, Distilling(**options), wanted, progress, tell), target)
