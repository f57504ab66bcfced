"""JSON Schemas of what goes in and out, made from signatures and from the table of errors: rows, tensors and refusals."""

from typing import Any

import numpy as np

from foretell.codes import CODES
from foretell.modes.http.status import STATUS
from foretell.tensors import Datatype, Signature, TensorSpec, show_shape

Schema = dict[str, Any]

NOT_FINITE: Schema = {"enum": ["NaN", "Infinity", "-Infinity"]}
BASE64: Schema = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
}
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SIZE: Schema = {"type": "integer", "minimum": -1}

COMPONENTS: dict[str, Schema] = {
    "TensorData": {
        "description": "The elements in row-major order, flat or nested as the shape says. NaN and the infinities are the "
        'strings "NaN", "Infinity" and "-Infinity"; bytes that are not text are base64, with the tensor parameter '
        '`"content_type": "base64"`.',
        "type": "array",
        "items": {"anyOf": [{"type": ["number", "string", "boolean"]}, {"$ref": "#/components/schemas/TensorData"}]},
    },
    "Parameters": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
    "Datatype": {"enum": list(map(str, Datatype))},
    "TensorMetadata": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": TEXT,
            "datatype": {"$ref": "#/components/schemas/Datatype"},
            "shape": {"description": "-1 is an axis of any length", "type": "array", "items": SIZE},
        },
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"$ref": "#/components/schemas/Parameters"},
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": TEXT}}},
        },
    },
    "Tensor": {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": TEXT,
            "shape": {"type": "array", "items": COUNT},
            "datatype": {"$ref": "#/components/schemas/Datatype"},
            "data": {"$ref": "#/components/schemas/TensorData"},
            "parameters": {"$ref": "#/components/schemas/Parameters"},
        },
    },
    "Duration": {"type": "object", "required": ["count", "ns"], "properties": {"count": COUNT, "ns": COUNT}},
}


def refer(name: str) -> Schema:
    """A reference to a schema among the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def statuses() -> dict[int, list[str]]:
    """The codes of each status that a caller can be told."""
    table: dict[int, list[str]] = {}
    for code, (error, _, _) in CODES.items():
        status = STATUS[error.kind]
        if status != 499:  # nobody is there to read it
            table.setdefault(status, []).append(code)
    return table


def error_schemas() -> dict[str, Schema]:
    """``Error400`` and so on: the body of every refusal, with the codes that a status has."""
    return {
        f"Error{status}": {
            "type": "object",
            "required": ["error", "code"],
            "properties": {"error": {"description": "A sentence for people.", **TEXT}, "code": {"enum": codes}},
        }
        for status, codes in statuses().items()
    }


def row_schema(signature: Signature) -> Schema:
    """One row as the row door reads it: an object with the inputs as keys."""
    properties = {spec.name: value_schema(spec) for spec in signature.inputs}
    for spec in signature.inputs:
        if spec.dtype.is_float and not spec.shape:
            properties[spec.name] = {"anyOf": [properties[spec.name], {"description": "missing: NaN", "type": "null"}]}
    return {"type": "object", "required": list(properties), "properties": properties}


def rows_schema(signature: Signature) -> Schema:
    """One row, several, or for a model with one input a list of its bare values."""
    row = row_schema(signature)
    several: Schema = {"minItems": 1} if signature.rows else {"minItems": 1, "maxItems": 1}
    forms = [row, {"type": "array", "items": row, **several}]
    if len(signature.inputs) == 1:
        spec = signature.inputs[0]
        bare = TEXT if spec.dtype is Datatype.BYTES and not spec.shape else value_schema(spec)
        forms.append({"type": "array", "items": bare, **several})
    return {"anyOf": forms}


def predictions_schema(signature: Signature) -> Schema:
    """One prediction a row."""
    properties = {spec.name: value_schema(spec) for spec in signature.outputs}
    return {"type": "array", "items": {"type": "object", "required": list(properties), "properties": properties}}


def value_schema(spec: TensorSpec) -> Schema:
    """One row's value of a tensor: nested arrays of its shape."""
    schema = element_schema(spec.dtype)
    for size in reversed(spec.shape):
        schema = {"type": "array", "items": schema, **({} if size is None else {"minItems": size, "maxItems": size})}
    return {**schema, "description": f"{spec.dtype} {show_shape(spec.shape)}" if spec.shape else str(spec.dtype)}


def element_schema(dtype: Datatype) -> Schema:
    """One element of a tensor in JSON."""
    if dtype is Datatype.BYTES:
        return {"anyOf": [TEXT, BASE64]}
    if dtype is Datatype.BOOL:
        return {"type": "boolean"}
    if dtype.is_integer:
        limits = np.iinfo(str(dtype).lower())
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    return {"anyOf": [{"type": "number"}, NOT_FINITE]}


def infer_schema(signature: Signature) -> Schema:
    """An infer request of the Open Inference Protocol to one model."""
    inputs = [_tensor_schema(spec, signature, fixed=True) for spec in signature.inputs]
    names = [spec.name for spec in signature.outputs]
    asked = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"enum": names}, "parameters": refer("Parameters")},
    }
    count = {"minItems": len(inputs), "maxItems": len(inputs)}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"description": "Given back in the answer.", **TEXT},
            "parameters": refer("Parameters"),
            "inputs": {"type": "array", "items": {"anyOf": inputs}, **count},
            "outputs": {"description": "What is asked for; all when left out.", "type": "array", "items": asked},
        },
    }


def inferred_schema(signature: Signature | None) -> Schema:
    """The answer to an infer request: of one model, or of any."""
    if signature is None:
        tensor: Schema = {
            "type": "object",
            "required": ["name", "shape", "datatype"],
            "properties": {"name": TEXT, "datatype": refer("Datatype"), "data": refer("TensorData")},
        }
    else:
        tensor = {"anyOf": [_tensor_schema(spec, signature, fixed=False) for spec in signature.outputs]}
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": TEXT,
            "model_version": TEXT,
            "id": TEXT,
            "parameters": refer("Parameters"),
            "outputs": {"type": "array", "items": tensor},
        },
    }


def _tensor_schema(spec: TensorSpec, signature: Signature, *, fixed: bool) -> Schema:
    """``fixed`` is for an input: then the shape is the model's."""
    shape: Schema = {"type": "array", "items": COUNT}
    if fixed:
        rows: list[Schema] = [{"description": "rows", "type": "integer", "minimum": 1}] if signature.rows else []
        sizes = [*rows, *(COUNT if size is None else {"const": size} for size in spec.shape)]
        shape = {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", *(["data"] if fixed else [])],
        "properties": {
            "name": {"const": spec.name},
            "shape": shape,
            "datatype": {"const": str(spec.dtype)} if fixed else refer("Datatype"),
            "data": refer("TensorData"),
            "parameters": refer("Parameters"),
        },
    }
