"""The command line: a file for each verb, which imports what it needs when it is called."""

import click

from foretell.cli.ask import ask
from foretell.cli.bench import bench
from foretell.cli.convert import convert
from foretell.cli.demo import demo
from foretell.cli.distill import distill
from foretell.cli.group import Verbs
from foretell.cli.inspect import inspect
from foretell.cli.jobs import jobs
from foretell.cli.predict import predict
from foretell.cli.prune import prune
from foretell.cli.quantize import quantize
from foretell.cli.serve import serve
from foretell.cli.tune import tune
from foretell.sockets import open_standard_streams

VERBS = (serve, predict, inspect, ask, jobs, bench, convert, quantize, prune, distill, tune, demo)
"""In the order of the help."""


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
      foretell jobs list http://127.0.0.1:8000
      foretell bench model.onnx
      foretell convert model.json -o model.onnx
      foretell quantize model.onnx -o small.onnx --data rows.csv
      foretell prune model.onnx -o small.onnx --data rows.csv
      foretell distill model.onnx -o small.onnx --data rows.csv
      foretell tune model.onnx --data rows.csv --slo p99=20ms
      foretell demo
    """


for verb in VERBS:
    cli.add_command(verb)


def main() -> None:
    """The ``foretell`` command."""
    open_standard_streams()
    cli.main(prog_name="foretell")
