"""The command line: seven verbs, each of which imports what it needs when it is called."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foretell.codes import CODES
from foretell.errors import ForetellError
from foretell.plugins import did_you_mean
from foretell.settings import load_settings, write_toml
from foretell.sockets import open_standard_streams
from foretell.verbs import Predicting, Sectioned, flags_of

if TYPE_CHECKING:
    from foretell.settings import Settings

SOME_ROWS_FAILED = 3


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


@click.group(
    cls=Verbs,
    subcommand_metavar="VERB ...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="`foretell VERB --help` shows a verb's options and an example.",
)
@click.version_option(package_name="foretell", message="foretell %(version)s")
def cli() -> None:
    """Turns a trained model into answers.

    \b
      foretell serve model.onnx
      foretell predict model.onnx rows.csv -o answers.csv
      foretell inspect model.onnx
      foretell ask http://127.0.0.1:8000 model rows.json
      foretell bench model.onnx
      foretell convert model.json -o model.onnx
      foretell demo
    """


@cli.command(cls=Sectioned, params=flags_of("serve"), short_help="Serve models over HTTP.")
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
    settings, origins = _settings(config, flags)
    if print_config:
        click.echo(write_toml(settings, origins))
        return
    if not paths:
        raise click.UsageError("name at least one model: foretell serve model.onnx", click.get_current_context())
    sources = [Path(path) for path in paths]
    if settings.workers and not check:
        from foretell.supervisor import supervise

        raise click.exceptions.Exit(supervise(sources, name, settings, os.environ))
    import foretell.assemble as assembly

    if check:
        from foretell.display import show_checked

        show_checked(assembly.check(sources, name, settings))
        return
    raise click.exceptions.Exit(assembly.serve(sources, name, settings, os.environ))


@cli.command(cls=Predicting, params=flags_of("predict"), short_help="Answer the rows of a file.")
@click.argument("model", metavar="MODEL")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.option("-o", "--output", "target", metavar="OUT", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option(
    "--map",
    "pairs",
    metavar="INPUT=COLUMN",
    multiple=True,
    help="Fill an input from a column of another name; may be repeated.",
)
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings as TOML.")
def predict(model: str, source: Path, target: Path, pairs: tuple[str, ...], config: Path | None, **flags: object) -> None:
    """Answer every row of IN and write the answers to OUT, in the same order.

    IN and OUT are .csv, .ndjson, .parquet or .npy files, or - for NDJSON on standard input or output; IN may also be a
    folder of images. Rows that cannot be answered go to OUT.errors.ndjson with their number and the reason, the others go
    on, and the exit code is 3.

    \b
      foretell predict model.onnx rows.parquet -o answers.parquet
      foretell predict models/digits scans/ -o digits.csv
      foretell predict model.onnx rows.csv -o answers.csv --map age=Age
    """
    settings, _ = _settings(config, flags)
    columns = _read_pairs(pairs)
    from foretell.display import show_report
    from foretell.modes.files import predict as answer_file
    from foretell.repository import open_pipeline

    report = answer_file(open_pipeline(model), source, target, settings.predict, map=columns, progress=True)
    show_report(report)
    if report.failed:
        raise click.exceptions.Exit(SOME_ROWS_FAILED)


@cli.command(cls=Sectioned, params=flags_of("inspect"), short_help="Show what a model takes and gives.")
@click.argument("path", metavar="PATH")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def inspect(path: str, as_json: bool, **flags: object) -> None:
    """Show what a model takes and gives, its size, its steps, and how long it loads and runs.

    PATH is a model file, a folder of models, or app.py:attribute.

    \b
      foretell inspect model.onnx
      foretell inspect models/ --json
    """
    _settings(None, flags)
    from foretell.display import inspect_models, show_models

    models = inspect_models(path)
    if as_json:
        import json

        click.echo(json.dumps({"models": models}, indent=2))
    else:
        show_models(models)


@cli.command(cls=Sectioned, params=flags_of("ask"), short_help="Ask a server.")
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
    _settings(None, options)
    from foretell.ask import Question, ask_server, show

    with click.open_file(str(source), "rb") as file:
        question = Question(model, file.read(), source.name, media_type, version)
    key = key_file.read().strip() if key_file else None
    show(ask_server(url, question, key, timeout_s), as_json=as_json or not sys.stdout.isatty())


@cli.command(cls=Sectioned, params=flags_of("bench"), short_help="Measure a server or a model under load.")
@click.argument("target", metavar="URL|PATH")
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("--sweep", is_flag=True, help="Raise the rate until p99 passes --slo-ms: find the knee.  [the default]")
@click.option("--rate", metavar="X", type=click.FloatRange(0, min_open=True), help="Requests/s, sent whatever becomes of them.")
@click.option("--clients", metavar="N", type=click.IntRange(1, 900), help="Clients that each wait for their answer.")
@click.option("--scenario", type=click.Choice(["single-stream", "multi-stream", "server", "offline"]), help="As MLPerf has it.")
@click.option(
    "--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", help="Gaps between requests.  [poisson]"
)
@click.option(
    "--seconds", metavar="X", type=click.FloatRange(0.1, 86_400), default=5.0, help="Length of each load.  [default: 5]"
)
@click.option(
    "--slo-ms", metavar="X", type=click.FloatRange(0, min_open=True), default=100.0, help="Bound of p99.  [default: 100]"
)
@click.option(
    "--protocol", type=click.Choice(["json", "binary", "grpc"]), default="json", help="What is spoken.  [default: json]"
)
@click.option("--rows", metavar="N", type=click.IntRange(1, 65_536), default=1, help="Rows of a request.  [default: 1]")
@click.option(
    "--data",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Rows to send, as .json or .npy.  [default: made up]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw the result: .png, .svg or .pdf.")
def bench(target: str, model: str | None, **options: Any) -> None:
    """Measure how fast a server answers, and at which rate it no longer does.

    The URL is that of a server; a PATH is a model, served for the time. Latency counts from when a request was meant to be
    sent, so that a server that stalls cannot hide it. Exit code 3: there are figures, but they are not to be relied on.

    \b
      foretell bench model.onnx
      foretell bench http://127.0.0.1:8000 threat --rate 500 --seconds 30
      foretell bench http://127.0.0.1:8000 threat --clients 32 --json
      foretell bench model.onnx --scenario server --slo-ms 15
    """
    loads = [name for name in ("sweep", "rate", "clients", "scenario") if options[name]]
    if len(loads) > 1:
        raise click.UsageError(f"--{loads[0]} and --{loads[1]} exclude each other: give one", click.get_current_context())
    as_json, plot, slo_ms = options.pop("as_json"), options.pop("plot"), options.pop("slo_ms")
    options.pop("sweep")
    _settings(None, {name: options.pop(name) for name in list(options) if name.startswith("log__")})
    from foretell.bench.session import Wanted
    from foretell.bench.show import run_and_show

    trusted = run_and_show(Wanted(where=target, model=model, slo_s=slo_ms / 1e3, **options), plot, as_json=as_json)
    if not trusted:
        raise click.exceptions.Exit(SOME_ROWS_FAILED)


@cli.command(cls=Sectioned, params=flags_of("convert"), short_help="Write a model in another format.")
@click.argument("model", metavar="MODEL")
@click.option("-o", "--output", "target", metavar="OUT", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option(
    "--rows", metavar="FILE", type=click.Path(path_type=Path), help="Rows to compare on, as for predict.  [default: made up]"
)
@click.option(
    "--tolerance",
    metavar="X",
    type=click.FloatRange(0),
    default=1e-3,
    help="Largest difference allowed, by the largest value of an output.  [default: 0.001]",
)
@click.option("--trust", is_flag=True, help="Load MODEL even if its format can run any code: a pickle, say.")
def convert(model: str, target: Path, rows: Path | None, tolerance: float, trust: bool, **flags: object) -> None:
    """Write MODEL in the format of OUT: .onnx, .xml (OpenVINO) or .tflite (LiteRT).

    Both then answer the same rows, and the largest differences are shown. If one is above the tolerance, nothing is written.

    \b
      foretell convert model.json -o model.onnx
      foretell convert model.onnx -o model.xml --rows rows.csv --tolerance 1e-5
    """
    _settings(None, flags)
    from foretell.backends import ModelOptions
    from foretell.convert import Wanted
    from foretell.convert import convert as write
    from foretell.display import show_conversion

    show_conversion(write(model, target, Wanted(tolerance, rows, ModelOptions(trust=trust))))


@cli.command(cls=Sectioned, params=flags_of("demo"), short_help="See two real models at work.")
def demo(**flags: object) -> None:
    """Serve two real models, ask them, and print the answers with the curl lines that repeat it.

    \b
      foretell demo
    """
    _settings(None, flags)
    from foretell.demo import run

    raise click.exceptions.Exit(run())


def main() -> None:
    """The ``foretell`` command."""
    open_standard_streams()
    cli.main(prog_name="foretell")


def _cure(code: str) -> str:
    """What to do about an error; a server that is newer than this command may have codes of its own."""
    return CODES[code][2] if code in CODES else "See the errors in the server's documentation."


def _settings(config: Path | None, flags: Mapping[str, object]) -> "tuple[Settings, dict[str, str]]":
    """The settings from all their sources; and logging set up by them."""
    settings, origins = load_settings(config, os.environ, {name.replace("__", "."): value for name, value in flags.items()})
    from foretell.observe.logs import configure

    configure(settings.log)
    return settings, origins


def _read_pairs(pairs: Iterable[str]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not (column and equals and name):
            raise click.UsageError(f"--map takes INPUT=COLUMN, as in --map age=Age, not {pair!r}", click.get_current_context())
        columns[name] = column
    return columns


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
