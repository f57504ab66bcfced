"""``foretell bench``."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from foretell.cli.flags import Sectioned, flags_of
from foretell.cli.reading import SOME_ROWS_FAILED, read_settings


@click.command(cls=Sectioned, params=flags_of("bench"), short_help="Measure a server or a model under load.")
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
    help="Rows to send: .json, .ndjson, .npy, or a picture.  [default: made up]",
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
      foretell bench http://127.0.0.1:8000 digits --data digit.png
      foretell bench model.onnx --scenario server --slo-ms 15
    """
    loads = [name for name in ("sweep", "rate", "clients", "scenario") if options[name]]
    if len(loads) > 1:
        raise click.UsageError(f"--{loads[0]} and --{loads[1]} exclude each other: give one", click.get_current_context())
    _refuse_what_a_scenario_fixes(options["scenario"])
    as_json, plot, slo_ms = options.pop("as_json"), options.pop("plot"), options.pop("slo_ms")
    options.pop("sweep")
    read_settings(None, {name: options.pop(name) for name in list(options) if name.startswith("log__")})
    from foretell.bench.session import Wanted
    from foretell.bench.show import run_and_show

    trusted = run_and_show(Wanted(where=target, model=model, slo_s=slo_ms / 1e3, **options), plot, as_json=as_json)
    if not trusted:
        raise click.exceptions.Exit(SOME_ROWS_FAILED)


def _refuse_what_a_scenario_fixes(scenario: str | None) -> None:
    context = click.get_current_context()
    for name in ("arrivals", "rows"):
        if scenario and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--scenario {scenario} fixes the {name}: leave --{name} out", context)
