"""``foretell demo``."""

import click

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.reading import read_settings


@click.command(cls=Sectioned, params=flags_of("demo"), short_help="See two real models at work.")
def demo(**flags: object) -> None:
    """Serve two real models, ask them, and print the answers with the curl lines that repeat it.

    \b
      foretell demo
    """
    read_settings(None, flags)
    from foretell.demo import run

    raise click.exceptions.Exit(run())
