"""``foretell ask``."""

import sys
from pathlib import Path
from typing import Any

import click

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.reading import read_settings


@click.command(cls=Sectioned, params=flags_of("ask"), short_help="Ask a server.")
@click.argument("url", metavar="URL")
@click.argument("model", metavar="MODEL")
@click.argument("source", metavar="IN", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, on a terminal too.")
@click.option("--model-version", metavar="VERSION", help="A version or a label of the model.  [default: the newest]")
@click.option("--content-type", metavar="TYPE", help="What IN is, as text/csv.  [default: seen from its name and bytes]")
@click.option(
    "--timeout-s",
    metavar="X",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    help="Longest time in all.  [default: 60]",
)
@click.option("--key-file", metavar="FILE", type=click.File("r"), help="File that holds the key to send.")
def ask(url: str, model: str, source: Path, as_json: bool, timeout_s: float, **options: Any) -> None:
    """Ask a server for the predictions of MODEL on what IN holds, and print them: a table on a terminal, else JSON.

    IN is rows as .json, .ndjson or .csv, or one image or text; - reads standard input.

    \b
      foretell ask http://127.0.0.1:8000 digits seven.png
      foretell ask http://127.0.0.1:8000 threat rows.csv --json
    """
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"URL is like http://127.0.0.1:8000, not {url!r}", click.get_current_context())
    key_file, version, media_type = (options.pop(name) for name in ("key_file", "model_version", "content_type"))
    read_settings(None, options)
    from foretell.ask import Question, ask_server, show

    with click.open_file(str(source), "rb") as file:
        question = Question(model, file.read(), source.name, media_type, version)
    key = key_file.read().strip() if key_file else None
    show(ask_server(url, question, key, timeout_s), as_json=as_json or not sys.stdout.isatty())
