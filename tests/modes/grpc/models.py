"""The models that the gRPC mode's tests ask."""

from foretell.tensors import Datatype
from tests.serving import MODELS

ECHO = """
@foretell.model(inputs={{"x": "{datatype}[?]"}}, outputs={{"y": "{datatype}[?]"}})
def model(arrays):
    return {{"y": arrays["x"]}}
"""
PAIR = """
@foretell.model(inputs={"a": "FP32[2]", "b": "INT64"}, outputs={"sum": "FP32[2]", "b": "INT64", "text": "BYTES"})
def model(arrays):
    total = arrays["a"] + arrays["b"][:, None]
    return {"sum": total.astype("float32"), "b": arrays["b"], "text": arrays["b"].astype(str).astype(object)}
"""
WHOLE = {**MODELS, "pair": PAIR, **{f"echo{datatype}": ECHO.format(datatype=datatype) for datatype in Datatype}}
KEY = "hunter2"
