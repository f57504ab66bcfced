"""``foretell inspect``."""

import click

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.reading import read_settings


@click.command(cls=Sectioned, params=flags_of("inspect"), short_help="Show what a model takes and gives.")
@click.argument("path", metavar="PATH")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def inspect(path: str, as_json: bool, **flags: object) -> None:
    """Show what a model takes and gives, its size, its steps, and how long it loads and runs.

    PATH is a model file, a folder of models, or app.py:attribute.

    \b
      foretell inspect model.onnx
      foretell inspect models/ --json
    """
    read_settings(None, flags)
    from foretell.display import inspect_models, show_models

    models = inspect_models(path)
    if as_json:
        import json

        click.echo(json.dumps({"models": models}, indent=2))
    else:
        show_models(models)
