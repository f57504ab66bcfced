"""How the command line shows a verb: its own options, then the settings as flags."""

import click

from foretell.settings import Key, walk

COMMON = ("host", "http.port", "grpc.port", "log.level")
TITLES = {
    "http": "HTTP",
    "grpc": "gRPC",
    "engine": "Batching and queues, for each model",
    "timeouts": "Longest times",
    "jobs": "Jobs",
}
METAVARS = {int: "N", float: "X", str: "TEXT"}


class Sectioned(click.Command):
    """A verb whose help shows its own options first, then the settings under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        options = (parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option))
        for parameter in sorted(options, key=lambda option: isinstance(option, Flag)):
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = parameter.title if isinstance(parameter, Flag) else "Options"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Predicting(Sectioned):
    """``foretell predict``, for whom a second file without its flag is the target."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _, more, _ = self.make_parser(ctx).parse_args(given)
            if len(more) == 1:
                raise click.UsageError(f"to write the answers to {more[0]}: -o {more[0]}", ctx) from error
            raise


def _note_level(ctx: click.Context, parameter: click.Parameter, level: str | None) -> str | None:
    ctx.meta["foretell.level"] = level
    return level


class Flag(click.Option):
    """The flag of one setting. Its text is checked where all settings are, so that every source gets the same answer."""

    def __init__(self, key: Key) -> None:
        self.title = "Options" if key.name in COMMON else TITLES.get(key.section, "Options")
        super().__init__(
            [f"{key.flag}/--no-{key.flag[2:]}" if key.type is bool else key.flag, key.name.replace(".", "__")],
            type=bool if key.type is bool else str,
            default=None,
            metavar=None if key.type is bool else METAVARS[key.type],
            help=f"{key.help}  [{'|'.join(key.choices) + '; ' if key.choices else ''}default: {key.shown_default}]",
            callback=_note_level if key.name == "log.level" else None,
        )


def flags_of(verb: str) -> list[click.Parameter]:
    """One flag for each setting of a verb, but for secrets; every verb has ``--log-level``."""
    return [Flag(key) for key in walk() if (key.verb == verb and not key.secret) or key.name == "log.level"]
