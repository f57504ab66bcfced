"""The page for people: the OpenAPI document as HTML, each model with a form to try it, each route with a line for the shell."""

import html
import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from foretell.engine.states import IndexEntry
from foretell.modes.http.bodies import LONGEST_INLINE, Served
from foretell.modes.http.openapi import plain
from foretell.modes.http.operations import MEANINGS, TAGS
from foretell.modes.http.versions import away, versions
from foretell.tensors import Signature, TensorSpec, show_shape

LONGEST_CURL = 700  # a longer body is fetched from its own address
JSON = "application/json"


def render(document: dict[str, Any], served: Iterable[Served], base: str, index: Iterable[IndexEntry] = ()) -> str:
    """The whole page; ``base`` is the server's address as the reader calls it, ``index`` every version that is known."""
    paths: dict[str, Any] = document["paths"]
    models = {model.engine.name: model for model in served}
    states: dict[str, list[IndexEntry]] = defaultdict(list)
    for entry in index:
        states[entry.name].append(entry)
    shown = sorted({*models, *states})
    cards = "".join(
        _card(models[name], states[name], paths, base) if name in models else away(name, states[name]) for name in shown
    )
    names = "".join(f"<li><a href='#{_attr(name)}'>{_text(name)}</a>" for name in shown)
    page = files("foretell.modes.http").joinpath("static", "page.html").read_text("utf-8")
    return (
        page.replace("<!-- version -->", _text(document["info"]["version"]))
        .replace("<!-- names -->", f"<ul>{names}</ul>" if len(shown) > 1 else "")
        .replace("<!-- models -->", cards or "<p>No model is ready yet: load this page again.</p>")
        .replace("<!-- routes -->", "".join(_group(tag, text, paths, base) for tag, text in TAGS.items()))
    )


def curl(base: str, path: str, method: str, operation: Mapping[str, Any], media_type: str | None = None) -> str:
    """A line for the shell that asks this operation with its own example, ready to be pasted; none without an example."""
    for parameter in operation["parameters"]:
        path = path.replace(f"{{{parameter['name']}}}", str(parameter.get("example", parameter["name"].upper())))
    url = shlex.quote(base + path)
    verb = "" if method == "post" else f" -X {method.upper()}"
    key = " -H 'authorization: Bearer KEY'" if "security" in operation else ""
    if "requestBody" not in operation:
        return f"curl -s{key} {url}" if method == "get" else f"curl -s -X {method.upper()}{key} {url}"
    content = operation["requestBody"]["content"]
    kind = media_type if media_type and media_type in content else str(next(iter(content)))
    header = f"-H {shlex.quote(f'content-type: {kind}')}"
    example = next(iter(content[kind].get("examples", {}).values()), None)
    if example is None:
        return ""
    if "externalValue" in example:
        return f"curl -s {shlex.quote(base + example['externalValue'])} |\n  curl -s{verb} {header} --data-binary @- {url}"
    value = example["value"]
    body = value if isinstance(value, str) and kind != JSON else json.dumps(value, ensure_ascii=False)
    if len(body) > LONGEST_CURL and "x-address" in example:
        return f"curl -s {shlex.quote(base + example['x-address'])} |\n  curl -s{verb} {header} --data-binary @- {url}"
    return f"curl -s{verb}{key} {header} --data-binary {shlex.quote(body)} {url}"


def _card(model: Served, states: Sequence[IndexEntry], paths: Mapping[str, Any], base: str) -> str:
    name = model.engine.name
    signature = model.engine.pipeline.signature
    shell = ""
    for path, label in ((f"/predict/{name}", "rows"), (f"/v2/models/{name}/infer", "tensors")):
        if path in paths:
            media_type = model.example.media_type if model.example and label == "rows" else None
            line = curl(base, path, "post", paths[path]["post"], media_type)
            shell += f"<h3>From a shell, as {label}</h3>{_pre(line)}" if line else ""
    return (
        f"<section id='{_attr(name)}'><h2>{_text(name)} <small>version {_text(model.engine.version)}</small></h2>"
        f"{versions(model, states)}"
        f"<div class='halves'><div>{_table('Takes', signature.inputs)}{_table('Gives', signature.outputs)}</div>"
        f"{_form(model, signature)}</div>{shell}</section>"
    )


def _table(title: str, specs: tuple[TensorSpec, ...]) -> str:
    rows = "".join(
        f"<tr><td>{_text(spec.name)}</td><td>{spec.dtype}</td>"
        f"<td>{show_shape(spec.shape) if spec.shape else 'one value'}</td></tr>"
        for spec in specs
    )
    head = "<tr><th>name</th><th>datatype</th><th>in a row</th></tr>"
    return f"<h3>{title}</h3><div class='scrolls'><table>{head}{rows}</table></div>"


def _form(model: Served, signature: Signature) -> str:
    name, example = _attr(model.engine.name), model.example
    kind = example.media_type or JSON if example else JSON
    address = f"/docs/examples/{name}/row"
    if kind == "image/png":
        field = (
            f"<div class='picture'><img src='{address}' alt='the picture that is sent' width=96 height=96>"
            "<label>Choose a picture, or ask with this one<input type=file accept='image/*'></label></div>"
        )
    else:
        row = _row(model, kind)
        hint = "" if row else f" placeholder='Leave this empty to send {address}, a row of the right shape.'"
        lines = min(16, max(3, row.count("\n") + 1 + len(row) // 400))
        field = f"<textarea rows={lines} spellcheck=false aria-label='a row'{hint}>{html.escape(row)}</textarea>"
    return (
        f"<form data-url='/predict/{name}' data-type='{kind}' data-example='{address}'><h3>Try it</h3>{field}"
        "<button>Ask</button><p class='note' role='status'></p><output></output></form>"
    )


def _row(model: Served, kind: str) -> str:
    """What stands in a form: the example, indented if that is not too long, empty if it would be very long."""
    if model.example is None:
        return ""
    if kind != JSON:
        return model.example.media.decode()
    row = json.dumps(model.example.row, indent=2, ensure_ascii=False)
    if len(row) < LONGEST_INLINE // 4:
        return row
    row = json.dumps(model.example.row, ensure_ascii=False)
    return row if len(row) < LONGEST_INLINE else ""


def _group(tag: str, about: str, paths: Mapping[str, Any], base: str) -> str:
    routes = "".join(
        _route(path, method, operation, base)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if operation["tags"] == [tag] and "x-model" not in operation and path == plain(path)
    )
    return f"<h3 id='{_anchor(tag)}'>{_text(tag)}</h3><p>{_text(about)}</p>{routes}" if routes else ""


def _route(path: str, method: str, operation: Mapping[str, Any], base: str) -> str:
    line = curl(base, path, method, operation)
    told = "".join(
        f"<tr><td>{status}</td><td>{_prose(MEANINGS[int(status)] if '$ref' in answer else answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    about = f"<p>{_prose(operation['description'])}</p>" if "description" in operation else ""
    verb = method.upper()
    return (
        f"<details><summary><b class='{method}'>{verb}</b><code>{_text(path)}</code>"
        f"<span>{_text(operation['summary'])}</span></summary>"
        f"<div>{about}{_pre(line)}<div class='scrolls'><table>{told}</table></div></div></details>"
    )


def _pre(line: str) -> str:
    return f"<div class='line'><pre>{_text(line)}</pre></div>" if line else ""


def _prose(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    parts = _text(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _anchor(tag: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in tag.lower())


def _text(text: str) -> str:
    return html.escape(text, quote=False)


def _attr(text: str) -> str:
    return html.escape(text, quote=True)
