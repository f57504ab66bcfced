"""How ``foretell jobs`` shows jobs: a table, a progress bar, and at the end a sentence and an exit code."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from foretell.client.jobs import JobsClient
from foretell.observe.logs import escape

SOME_ROWS_FAILED = 3
COLUMNS = ("id", "kind", "state", "created_at")
LEAST_WIDTH = 140
"""Where less is there, a line goes on over the edge: it can still be read, and cut by other programs."""


def show_jobs(jobs: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """A table with a line for each job, or one JSON document."""
    if as_json:
        sys.stdout.write(orjson.dumps(jobs, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for title in (*COLUMNS, "progress"):
        table.add_column(title.removesuffix("_at"), no_wrap=True)
    for job in jobs:
        cells = [str(job.get(name) or "").replace("T", " ").removesuffix("Z") for name in COLUMNS]
        table.add_row(*(Text(escape(cell, 200)) for cell in (*cells, describe(job))))
    Console(highlight=False, width=max(LEAST_WIDTH, Console().width), soft_wrap=True).print(table)


def describe(job: Mapping[str, Any]) -> str:
    """``40 %, 1,024 rows, 3 of them bad, 512 rows/s, 12 s left``; what is not known is left out. Of a failed job, its code."""
    told = job.get("progress") or {}
    parts = [str(job["code"])] if job.get("state") == "failed" and job.get("code") else []
    if isinstance(told.get("done"), int | float):
        parts.append(f"{100 * told['done']:.0f} %")
    if "rows" in told:
        parts.append(f"{told['rows'] + told.get('failed', 0):,} rows")
    if told.get("failed"):
        parts.append(f"{told['failed']:,} of them bad")
    if told.get("rows_per_s"):
        parts.append(f"{told['rows_per_s']:,.0f} rows/s")
    if told.get("eta_s") is not None and job.get("state") == "running":
        parts.append(f"{told['eta_s']:,.0f} s left")
    return ", ".join(parts)


def watch_job(client: JobsClient, id: str) -> int:
    """Show a job until it has ended, off a terminal by a line for each tenth; gives the exit code. Raises ForetellError."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("waiting", total=None, text="")
        told = None
        for job in client.watch(id):
            done = (job.get("progress") or {}).get("done")
            tenth = (job["state"], int(10 * (done or 0)))
            if tenth != told and not console.is_terminal:
                _tell(console, job)
            told = tenth
            bar.update(
                task, description=job["state"], total=done and 1.0, completed=done or 0.0, text=escape(describe(job), 200)
            )
    return _conclude(client, job, console)


def _tell(console: Console, job: Mapping[str, Any]) -> None:
    """A line for a job that has not ended."""
    if job["state"] in ("waiting", "running"):
        words = ", ".join(filter(None, (job["state"], describe(job))))
        console.print(Text(escape(words, 200)), soft_wrap=True)


def how_it_ended(job: Mapping[str, Any]) -> str:
    """``failed: the reason [code]``, or the state alone."""
    return f"failed: {job.get('error', '')} [{job.get('code', '')}]" if job["state"] == "failed" else str(job["state"])


def _conclude(client: JobsClient, job: Mapping[str, Any], console: Console) -> int:
    if job["state"] != "done":
        console.print(Text(escape(how_it_ended(job), 2000)))
        return 1
    if job["kind"] != "files":
        console.print(f"done: its answer is at /jobs/{job['id']}/result")
        return 0
    report = client.result(job["id"])
    rows, failed, seconds = report["rows"], report["failed"], report["seconds"]
    bad = f", {failed:,} failed: foretell jobs retry has them answered again" if failed else ""
    before = f", {report['resumed']:,} of them by a run before into the same output" if report.get("resumed") else ""
    console.print(f"done: {rows:,} rows answered in {seconds:,.1f} s{before}{bad}")
    return SOME_ROWS_FAILED if failed else 0
