"""The limit that foretell is measured against: the same session behind uvloop and httptools, one at a time, no features.

    python benchmarks/limit.py model.onnx PORT

Nothing is checked, counted, limited or timed; nothing is batched. It takes one JSON tensor and gives one.
"""

import asyncio
import sys
from typing import Any

import httptools
import msgspec
import numpy as np
import onnxruntime
import orjson
import uvloop


class Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Body(msgspec.Struct):
    inputs: list[Tensor]


DECODER = msgspec.json.Decoder(Body)
OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1
SESSION = onnxruntime.InferenceSession(sys.argv[1], OPTIONS, providers=["CPUExecutionProvider"])


class Limit(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.write = transport.write
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body = self.body + body if self.body else body

    def on_message_complete(self) -> None:
        tensor = DECODER.decode(self.body).inputs[0]
        self.body = b""
        output = SESSION.run(None, {tensor.name: np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)})[0]
        answer = {"name": "output", "datatype": "FP32", "shape": output.shape, "data": output.ravel()}
        text = orjson.dumps({"model_name": "m", "outputs": [answer]}, option=orjson.OPT_SERIALIZE_NUMPY)
        self.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Limit, "127.0.0.1", int(sys.argv[2]), backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
