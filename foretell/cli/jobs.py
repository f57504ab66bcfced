"""``foretell jobs``: the jobs of a server."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from foretell.cli.reading import interruptible, read_pairs

if TYPE_CHECKING:
    from foretell.client.jobs import JobsClient

FOR_PROGRAMS = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def of_server(command: Callable[..., None]) -> Callable[..., None]:
    """What every verb of this group takes."""
    timeout = click.FloatRange(0, min_open=True)
    options = (
        click.argument("url", metavar="URL"),
        click.option("--key-file", metavar="FILE", type=click.File("r"), help="File that holds the server's admin key."),
        click.option("--timeout-s", metavar="X", type=timeout, default=60.0, help="Longest time of a call.  [default: 60]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def open_client(url: str, key_file: Any, timeout_s: float) -> "JobsClient":
    """Raises Setup for an address that is none."""
    from foretell.client.jobs import JobsClient

    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"URL is like http://127.0.0.1:8000, not {url!r}", click.get_current_context())
    return JobsClient(url, key=key_file.read().strip() if key_file else None, timeout_s=timeout_s)


@click.group(short_help="Submit, watch and cancel the jobs of a server.", subcommand_metavar="VERB ...")
def jobs() -> None:
    """Jobs of a server, which must have been started with --jobs-state-folder, and FORETELL_ADMIN_KEY for jobs over files.

    \b
      foretell jobs submit http://127.0.0.1:8000 digits /data/scans -o /data/digits.parquet --key-file key.txt
      foretell jobs list http://127.0.0.1:8000 --key-file key.txt
      foretell jobs watch http://127.0.0.1:8000 ID --key-file key.txt
    """


@jobs.command(short_help="Have a server answer the rows of files.")
@of_server
@click.argument("model", metavar="MODEL")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", "target", metavar="OUT", required=True, help="Where the answers go, on the server.")
@click.option("--map", "pairs", metavar="INPUT=COLUMN", multiple=True, help="Fill an input from a column of another name.")
@click.option("--model-version", "version", metavar="VERSION", help="A version of the model.  [default: the newest]")
@click.option("--batch-rows", metavar="N", type=int, help="Rows of a mini-batch.  [default: the server's]")
@click.option(
    "--max-errors", metavar="N", type=int, help="Bad rows that end the job when there are more.  [default: any number]"
)
@click.option("--retries", metavar="N", type=int, help="Tries after the first for what may pass.")
@click.option("--concurrency", metavar="N", type=int, help="How much is answered side by side.  [default: 1]")
@click.option("--keep", metavar="COLUMNS", help="Columns of the input to pass on, with commas between; * is all of them.")
@click.option("--where", metavar="EXPRESSION", help="Answer only rows that pass it, as 'age > 30'.")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="Look at the first N rows only.")
@click.option("--sample", metavar="X", type=click.FloatRange(0, 1, min_open=True), help="Answer a share of the rows.")
@click.option("--restart", is_flag=True, default=None, help="Begin anew, without what an unfinished run has done.")
@click.option("--priority", metavar="N", type=click.IntRange(1, 3), help="1 is begun first, 3 last.  [default: 3]")
@click.option("--idempotency-key", metavar="KEY", help="Submitting the same again gives the same job.")
@click.option("--webhook", metavar="URL", help="Address that is told of the end; its host must be listed on the server.")
@click.option("--watch", "is_watched", is_flag=True, help="Wait for the end, as `foretell jobs watch` does.")
def submit(url: str, key_file: Any, timeout_s: float, is_watched: bool, **wishes: Any) -> None:
    """Have a server answer every row of IN with MODEL and write OUT. Prints the id of the job.

    IN and OUT are full paths on the server, or addresses in a bucket, as its setting jobs.paths allows.

    \b
      foretell jobs submit http://127.0.0.1:8000 threat /data/pages.csv -o /data/answers.csv --key-file key.txt
    """
    webhook, pairs, key = wishes.pop("webhook"), read_pairs(wishes.pop("pairs")), wishes.pop("idempotency_key")
    wishes["keep"] = wishes["keep"] and [name.strip() for name in wishes["keep"].split(",")]
    order = {"model": wishes.pop("model"), "input": wishes.pop("source"), "output": wishes.pop("target")}
    order |= {name: value for name, value in wishes.items() if value is not None} | ({"map": pairs} if pairs else {})
    with open_client(url, key_file, timeout_s) as client:
        job = client.submit(order, webhook=webhook, idempotency_key=key)
        click.echo(job["id"])
        if is_watched:
            _watch(client, job["id"])


@jobs.command("list", short_help="List jobs, the newest first.")
@of_server
@click.option("--state", metavar="STATE", help="Only those that are waiting, running, done, failed or cancelled.")
@click.option("--limit", "most", metavar="N", type=click.IntRange(1), default=20, help="Most jobs.  [default: 20]")
@FOR_PROGRAMS
def list_jobs(url: str, key_file: Any, timeout_s: float, state: str | None, most: int, as_json: bool) -> None:
    """List the jobs of a server, the newest first.

    \b
      foretell jobs list http://127.0.0.1:8000 --state running --key-file key.txt
    """
    with open_client(url, key_file, timeout_s) as client:
        found = list(client.list(state, most))
    from foretell.jobs_shown import show_jobs

    show_jobs(found, as_json=as_json)


@jobs.command(short_help="Wait for the end of a job.")
@of_server
@click.argument("id", metavar="ID")
def watch(url: str, key_file: Any, timeout_s: float, id: str) -> None:
    """Show how far a job is until it has ended; the exit code is the job's own.

    0: all rows are answered; 3: some failed, and are told in OUT.errors.ndjson; 1: the job failed or was cancelled.

    \b
      foretell jobs watch http://127.0.0.1:8000 ID --key-file key.txt
    """
    with open_client(url, key_file, timeout_s) as client:
        _watch(client, id)


@jobs.command(short_help="Cancel a job.")
@of_server
@click.argument("id", metavar="ID")
def cancel(url: str, key_file: Any, timeout_s: float, id: str) -> None:
    """Cancel a job, waiting or running; one that has ended stays as it is.

    \b
      foretell jobs cancel http://127.0.0.1:8000 ID --key-file key.txt
    """
    with open_client(url, key_file, timeout_s) as client:
        job = client.cancel(id)
    ended = job["state"] if job["state"] == "cancelled" else f"it had ended before: {job['state']}"
    click.echo("cancelling: it ends within seconds" if job.get("cancelling") else ended)


@jobs.command(short_help="Answer the failed rows of a job once more.")
@of_server
@click.argument("id", metavar="ID")
@click.option("--watch", "is_watched", is_flag=True, help="Wait for the end, as `foretell jobs watch` does.")
def retry(url: str, key_file: Any, timeout_s: float, id: str, is_watched: bool) -> None:
    """Have the rows answered that failed in a job which has ended, as a new job. Prints its id.

    \b
      foretell jobs retry http://127.0.0.1:8000 ID --key-file key.txt
    """
    with open_client(url, key_file, timeout_s) as client:
        job = client.retry(id)
        click.echo(job["id"])
        if is_watched:
            _watch(client, job["id"])


@jobs.command(short_help="Show what a job has said.")
@of_server
@click.argument("id", metavar="ID")
def logs(url: str, key_file: Any, timeout_s: float, id: str) -> None:
    """Show what a job has said, the newest thousand lines.

    \b
      foretell jobs logs http://127.0.0.1:8000 ID --key-file key.txt
    """
    with open_client(url, key_file, timeout_s) as client:
        lines, job = client.logs(id)["lines"], client.get(id)
    from foretell.jobs_shown import how_it_ended
    from foretell.observe.logs import escape

    for line in lines:
        click.echo(escape(f"{line['at']} {line['text']}", 4000))
    click.echo(escape(how_it_ended(job), 4000), err=True)


def _watch(client: "JobsClient", id: str) -> None:
    from foretell.jobs_shown import watch_job

    with interruptible(f"no longer watched: the job goes on, and `foretell jobs cancel URL {id}` ends it"):
        code = watch_job(client, id)
    if code:
        raise click.exceptions.Exit(code)
