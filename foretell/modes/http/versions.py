"""The versions of a model on the page for people: which there are, how each is, its labels, and which one is asked."""

import html
from collections.abc import Sequence

from foretell.engine.states import IndexEntry, State
from foretell.modes.http.bodies import Served


def versions(model: Served, states: Sequence[IndexEntry]) -> str:
    """A picker of the version that the form asks; nothing when there is only one, without a label."""
    name = model.engine.name
    known = {entry.version: entry for entry in states if entry.version}
    numbers = sorted({*known, *model.versions}, key=int, reverse=True)
    if len(numbers) < 2 and not model.labels:
        return ""
    chips = [_chip(f"/predict/{name}", "no version named", f"is answered by {model.engine.version}", "", checked=True)]
    for number in numbers:
        entry = known.get(number)
        labels = [label for label, version in model.labels.items() if version == number]
        ready = number in model.versions
        about = " ".join(labels) if ready else _state(entry)
        chips.append(_chip(f"/predict/{name}/versions/{number}", number, about, "" if ready else _reason(entry), asked=ready))
    return f"<fieldset class='versions'><legend>Version that is asked</legend>{''.join(chips)}</fieldset>"


def away(name: str, states: Sequence[IndexEntry]) -> str:
    """A model of which no version answers now, and why."""
    rows = "".join(
        f"<tr><td>{_text(entry.version or 'any')}</td><td>{_state(entry)}</td><td>{_text(entry.reason)}</td></tr>"
        for entry in states
    )
    head = "<tr><th>version</th><th>state</th><th>reason</th></tr>"
    title = f"<h2>{_text(name)} <small>not served now</small></h2>"
    table = f"<div class='scrolls'><table>{head}{rows}</table></div>"
    return f"<section id='{_attr(name)}' class='away'>{title}{table}</section>"


def _chip(url: str, title: str, about: str, reason: str, *, asked: bool = True, checked: bool = False) -> str:
    state = (" checked" if checked else "") + ("" if asked else " disabled")
    told = f" title='{_attr(reason)}'" if reason else ""
    field = f"<input type=radio name='{_attr(url.split('/')[2])}' value='{_attr(url)}'{state}>"
    return f"<label{told}>{field}<b>{_text(title)}</b> <span>{_text(about)}</span></label>"


def _state(entry: IndexEntry | None) -> str:
    return (entry.state if entry else State.UNAVAILABLE).lower()


def _reason(entry: IndexEntry | None) -> str:
    return entry.reason if entry else ""


def _attr(text: str) -> str:
    return html.escape(text, quote=True)


def _text(text: str) -> str:
    return html.escape(text, quote=False)
