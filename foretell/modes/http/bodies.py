"""Request bodies in the OpenAPI document: their schemas, and examples that the model really answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from foretell.engine.engine import Engine
from foretell.modes.http.examples import Example
from foretell.modes.http.schemas import Schema, infer_schema, refer, rows_schema
from foretell.tensors import Datatype, Signature

JSON = "application/json"
BINARY = "application/octet-stream"
Body = Callable[["Served | None", bool], dict[str, Any]]
LONGEST_INLINE = 4000  # bytes; a longer example has an address of its own


@dataclass(frozen=True)
class Served:
    """The newest version of a model, with a row that it answers if one was found."""

    engine: Engine
    example: Example | None
    versions: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


def request_body(kind: str, served: Sequence[Served], *, own: bool) -> dict[str, Any]:
    """What a route reads. ``own``: of exactly the one model that is given; else of any, shown by one's example."""
    model = fitting(kind, served)
    return {"required": kind not in OPTIONAL, "content": BODIES[kind](model, own)}


def fitting(kind: str, served: Sequence[Served]) -> Served | None:
    """The first model that has an example for such a body, or else any."""
    fits = [each for each in served if each.example is not None and FITS.get(kind, _any)(each.engine.pipeline.signature)]
    if kind in ("only", "vertex"):
        fits = [each for each in fits if len(served) == 1 or each.engine.name == "default"]
    return fits[0] if fits else None


def _any(signature: Signature) -> bool:
    return True


def _has_scores(signature: Signature) -> bool:
    return signature.rows and any(spec.dtype.is_float and len(spec.shape) < 2 for spec in signature.outputs)


def _has_value(signature: Signature) -> bool:
    words = (Datatype.BYTES, Datatype.BOOL)
    return signature.rows and any(spec.dtype not in words and spec.shape in ((), (1,)) for spec in signature.outputs)


def _rows(model: Served | None, own: bool) -> dict[str, Any]:
    anything: Schema = {"type": ["object", "array"]}
    if model is None:
        return {JSON: {"schema": anything}}
    schema = rows_schema(model.engine.pipeline.signature) if own else anything
    kinds: dict[str, Schema] = {JSON: schema}
    if own:
        kinds["application/x-ndjson"] = {"type": "string"}
    example = model.example
    if own and example is not None and example.is_flat:
        kinds["text/csv"] = {"type": "string"}
    if own and example is not None and example.media_type:
        kinds[example.media_type] = {"type": "string"} if example.media_type == "text/plain" else {}
    return {kind: {"schema": schema, **_shown(model, kind)} for kind, schema in kinds.items()}


def _shown(model: Served, kind: str) -> dict[str, Any]:
    if model.example is None:
        return {}
    body = model.example.body(kind)
    whole = kind == (model.example.media_type or JSON)  # what the address of the example gives
    address = f"/docs/examples/{model.engine.name}/row" if whole else None
    if kind == "image/png":
        return _one_row(None, address)
    return _one_row(body.decode() if kind != JSON else orjson.loads(body), address, len(body))


def _one_row(value: object, address: str | None, size: int = 0) -> dict[str, Any]:
    """An example as OpenAPI has it: its value while that is short, else its address."""
    if value is None or (size > LONGEST_INLINE and address):
        return {"examples": {"one row": {"externalValue": address}}}
    if size > LONGEST_INLINE:
        return {}
    return {"examples": {"one row": {"value": value, **({"x-address": address} if address else {})}}}


def _infer(model: Served | None, own: bool) -> dict[str, Any]:
    if model is None:
        return {JSON: {"schema": refer("InferRequest")}, BINARY: {}}
    schema = infer_schema(model.engine.pipeline.signature) if own else refer("InferRequest")
    shown: dict[str, Any] = {}
    if model.example is not None:
        body = model.example.infer_body()
        shown = _one_row(orjson.loads(body), f"/docs/examples/{model.engine.name}/infer", len(body))
    return {JSON: {"schema": schema, **shown}, BINARY: {}}


def _wrapped(key: str, schema: Schema) -> Body:
    """A body with the rows under a key; without one, the row itself."""

    def body(model: Served | None, own: bool) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        if model is not None and model.example is not None:
            row = model.example.row
            shown = _one_row({key: [row]} if key else row, None, len(model.example.body(JSON)))
        return {JSON: {"schema": schema, **shown}}

    return body


def _options(schema: Schema, value: object) -> Body:
    return lambda model, own: {JSON: {"schema": schema, "examples": {"as usual": {"value": value}}}}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


ROW: Schema = {"type": "object"}
LIST: Schema = {"type": "array"}
OPTIONAL = ("index", "options")
FITS: Mapping[str, Callable[[Signature], bool]] = {"classify": _has_scores, "regress": _has_value}
JOB_ORDER: Schema = {
    "type": "object",
    "required": ["model", "input", "output"],
    "properties": {
        "model": {"type": "string"},
        "input": {"description": "The full path of a file or folder, or an address in a bucket.", "type": "string"},
        "output": {"type": "string"},
    },
}
BODIES: Mapping[str, Body] = {
    "job": _options(JOB_ORDER, {"model": "model", "input": "/data/rows.csv", "output": "/data/answers.csv"}),
    "rows": _rows,
    "only": _rows,
    "infer": _infer,
    "generate": _wrapped("", ROW),
    "instances": _wrapped("instances", {"anyOf": [_object(instances=LIST), _object(inputs={"type": ["object", "array"]})]}),
    "vertex": _wrapped("instances", _object(instances=LIST)),
    "classify": _wrapped("examples", _object(examples=LIST)),
    "regress": _wrapped("examples", _object(examples=LIST)),
    "index": _options({"type": "object", "properties": {"ready": {"type": "boolean"}}}, {"ready": False}),
    "options": _options({"type": "object", "properties": {"parameters": {"type": "object"}}}, {}),
}
