"""What hosting platforms call: TorchServe's, SageMaker's and Vertex's routes, answered by the row door.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from foretell.engine.catalog import Catalog
from foretell.errors import Invalid, Missing, Setup
from foretell.modes.http.rows import RowDoor
from foretell.request import Request
from foretell.tensors import Arrays

DEFAULT = "default"


class VertexBody(msgspec.Struct):
    """Vertex's request."""

    instances: msgspec.Raw
    parameters: dict[str, Any] = {}


_BODY = msgspec.json.Decoder(VertexBody)


@dataclass(frozen=True)
class HostRoutes:
    """The paths that Vertex wants to call; an empty one is not there."""

    vertex_health: str = ""
    vertex_predict: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "HostRoutes":
        """As the platform says in ``AIP_HEALTH_ROUTE`` and ``AIP_PREDICT_ROUTE``. Raises Setup for what is no path."""
        health, predict = environ.get("AIP_HEALTH_ROUTE", ""), environ.get("AIP_PREDICT_ROUTE", "")
        for name, path in (("AIP_HEALTH_ROUTE", health), ("AIP_PREDICT_ROUTE", predict)):
            if path and not (path.startswith("/") and path.isascii() and path.isprintable() and not set(path) & set("?#%{} ")):
                raise Setup("wrong_setting", f"the variable {name} must be a path such as /predict, not {path[:80]!r}")
        return cls(health, predict)


class VertexDoor:
    """Reads ``{"instances": [...]}`` for one engine; the answer is ``{"predictions": [...]}``."""

    json_only = True

    def __init__(self, rows: RowDoor) -> None:
        self.engine = rows.engine
        self.rows = rows

    def read(self, body: bytes, content_type: bytes, received: float, total_s: float) -> Request:
        """The request in a body. Raises Invalid."""
        try:
            parsed = _BODY.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            reason = str(error).replace("`", "").replace("$", "body")
            raise Invalid("invalid_json", f"the body is not a list of 'instances': {reason}") from error
        instances = bytes(parsed.instances)
        if not instances.startswith(b"["):
            raise Invalid("invalid_json", "'instances' must be a list with one entry for each row")
        return self.rows.read(instances, b"", received, total_s)

    def write(self, request: Request, outputs: Arrays) -> bytes:
        """One object a row, under ``predictions``."""
        return self.rows.write_under(b"{", outputs)


def find_default(catalog: Catalog) -> str:
    """The model of the routes that name none: the only one, or the one named ``default``. Raises Missing."""
    names = sorted({engine.name for engine in catalog})
    if len(names) == 1:
        return names[0]
    if DEFAULT in names:
        return DEFAULT
    shown = ", ".join(names[:20]) or "none yet"
    text = (
        f"this route names no model, and those served are {shown}: serve one, name one of them 'default', or use /predict/NAME"
    )
    raise Missing("unknown_model", text)
