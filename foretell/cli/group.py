"""The group of verbs, with the one place where failures become sentences."""

import os
from pathlib import Path
from typing import Any

import click

from foretell.codes import CODES
from foretell.errors import ForetellError
from foretell.plugins import did_you_mean


class Refusal(click.ClickException):
    """A failure of ours as one sentence on standard error, and what to do about it. The exit code is 1."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.cure = cure

    def show(self, file: Any = None) -> None:
        click.echo(f"foretell: {self.message}", err=True)
        click.echo(f"  what to do: {self.cure}", err=True)


class Verbs(click.Group):
    """The verbs, with the one place where failures become sentences; a traceback is shown at log level debug only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        verb = args[0]
        if verb not in self.commands and not verb.startswith("-"):
            ctx.fail(f"{verb!r} is not a verb{_suggest(verb, list(self.commands))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except ForetellError as error:
            _show_trace(ctx)
            raise Refusal(error.message, f"{_cure(error.code)} [{error.code}]") from error
        except Exception as error:
            _show_trace(ctx)
            raise Refusal(f"a mistake of its own: {error!r}", "Add --log-level debug to see where, and report it.") from error


def _cure(code: str) -> str:
    """What to do about an error; a server that is newer than this command may have codes of its own."""
    return CODES[code][2] if code in CODES else "See the errors in the server's documentation."


def _show_trace(ctx: click.Context) -> None:
    """The traceback of the error in flight, if debugging was asked for."""
    if (ctx.meta.get("foretell.level") or os.environ.get("FORETELL_LOG_LEVEL")) == "debug":
        import traceback

        click.echo(traceback.format_exc(), err=True)


def _suggest(verb: str, verbs: list[str]) -> str:
    """A model's path without a verb means ``serve``, most likely."""
    if "." in verb or "/" in verb or Path(verb).exists():
        return f": did you mean `foretell serve {verb}`?"
    return did_you_mean(verb, verbs)
