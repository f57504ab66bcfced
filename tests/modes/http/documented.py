"""Requests made from nothing but the OpenAPI document, as a program that reads it would make them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from tests.serving import Reply, Served


@dataclass(frozen=True)
class Call:
    """A request to an operation of the document. A parameter without an example stays ``{name}`` in the path."""

    verb: str
    path: str
    operation: dict[str, Any]
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def with_header(self, name: bytes, value: bytes) -> "Call":
        return replace(self, headers=(*self.headers, (name, value)))


def calls(document: dict[str, Any], served: Served | None = None) -> Iterator[Call]:
    """Every operation with each of its examples; one that has none, without a body."""
    for path, methods in document["paths"].items():
        for verb, operation in methods.items():
            filled = path
            for parameter in operation["parameters"]:
                filled = filled.replace(f"{{{parameter['name']}}}", parameter.get("example", f"{{{parameter['name']}}}"))
            bodies = list(_bodies(operation, served)) or [("application/json", b"{}")]
            for kind, body in bodies if "requestBody" in operation else [("", b"")]:
                headers = ((b"content-type", kind.encode()),) if kind else ()
                yield Call(verb.upper(), filled, operation, headers, body)


def example_calls(document: dict[str, Any], served: Served) -> Iterator[Call]:
    """Those calls whose every part has an example."""
    for call in calls(document, served):
        content = call.operation.get("requestBody", {}).get("content", {})
        has_body = not content or any("examples" in each for each in content.values())
        if has_body and not re.search(r"{\w+}", call.path):
            yield call


def _bodies(operation: dict[str, Any], served: Served | None) -> Iterator[tuple[str, bytes]]:
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        for example in content.get("examples", {}).values():
            if "value" in example:
                value = example["value"]
                yield kind, value.encode() if kind != "application/json" else orjson.dumps(value)
            elif served is not None:
                yield kind, served.get(example["externalValue"]).body


def send(served: Served, call: Call) -> Reply:
    """The call, over a connection of its own."""
    lines = [b"%b %b HTTP/1.1" % (call.verb.encode(), call.path.encode()), b"host: localhost"]
    lines += [b"%b: %b" % header for header in (*call.headers, (b"content-length", b"%d" % len(call.body)))]
    return served.ask(b"\r\n".join(lines) + b"\r\n\r\n" + call.body)
