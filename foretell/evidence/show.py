"""The evidence of a candidate in a terminal."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from foretell.display import WIDTH_WHEN_PIPED
from foretell.evidence.case import Evidence
from foretell.evidence.report import table, verdict_line
from foretell.observe.logs import escape


def show_evidence(evidence: Evidence) -> None:
    """The figures of both models as a table, then the verdict and what it leaves open; that of a refusal is the refusal's."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH_WHEN_PIPED, highlight=False)
    shown = Table(box=None, header_style="dim", padding=(0, 2))
    for title in ("", "original", "changed", "better"):
        shown.add_column(title, overflow="fold")
    for row in table(evidence):
        shown.add_row(*(Text(escape(cell)) for cell in row))
    console.print(shown)
    written = evidence.verdict.good or evidence.wanted.force
    for text in (*([verdict_line(evidence)] if written else []), *evidence.verdict.doubts, *evidence.remarks):
        console.print(Text(escape(text)), soft_wrap=True)
