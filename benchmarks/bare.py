"""What the HTTP mode is measured against: uvicorn and an ASGI app that decodes, runs the model and encodes, and no more.

python benchmarks/bare.py model.onnx PORT
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import orjson
import uvicorn


class Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class Body(msgspec.Struct):
    inputs: list[Tensor]
    id: str | None = None


DECODER = msgspec.json.Decoder(Body)
OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1
SESSION = onnxruntime.InferenceSession(sys.argv[1], OPTIONS, providers=["CPUExecutionProvider"])


async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    tensor = DECODER.decode(body).inputs[0]
    rows = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
    output = SESSION.run(None, {tensor.name: rows})[0]
    answer = {"name": "output", "datatype": "FP32", "shape": list(output.shape), "data": output.ravel()}
    text = orjson.dumps({"model_name": "m", "outputs": [answer]}, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[2]), http="httptools", loop="uvloop", lifespan="off", access_log=False, log_level="warning"
    )
