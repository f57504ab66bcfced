"""``foretell serve``."""

import os
from pathlib import Path

import click

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.reading import have_arrow_hold_less, read_settings
from foretell.settings import write_toml


@click.command(cls=Sectioned, params=flags_of("serve"), short_help="Serve models over HTTP.")
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option("--name", metavar="NAME", help="Name of the one model, instead of its file's or folder's.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings as TOML.")
@click.option("--print-config", is_flag=True, help="Print every setting and where its value comes from, then exit.")
@click.option("--check", is_flag=True, help="Load and warm every model, print what they take and give, then exit.")
def serve(
    paths: tuple[str, ...],
    name: str | None,
    config: Path | None,
    print_config: bool,
    check: bool,
    **flags: object,
) -> None:
    """Serve models over HTTP until SIGTERM or Ctrl-C.

    PATH is a model file, a folder of models, or app.py:attribute.

    \b
      foretell serve model.onnx
      foretell serve models/ --host 0.0.0.0 --http-port 80
      foretell serve app.py:pipeline --name digits

    Each setting is a flag, a FORETELL_* variable and a key of the --config file; the first of these that is there wins.
    The flag --http-port, say, is the variable FORETELL_HTTP_PORT, and the key "port" in the table [http].
    FORETELL_ADMIN_KEY, which lets its holders load and unload models, is a secret and has no flag.
    """
    settings, origins = read_settings(config, flags)
    have_arrow_hold_less()  # for jobs over files, in processes of their own
    if print_config:
        click.echo(write_toml(settings, origins))
        return
    if not paths:
        raise click.UsageError("name at least one model: foretell serve model.onnx", click.get_current_context())
    sources = [Path(path) for path in paths]
    if settings.workers and not check:
        from foretell.workers.supervisor import supervise

        raise click.exceptions.Exit(supervise(sources, name, settings, os.environ))
    import foretell.assemble as assembly

    if check:
        from foretell.display import show_checked

        show_checked(assembly.check(sources, name, settings))
        return
    raise click.exceptions.Exit(assembly.serve(sources, name, settings, os.environ))
