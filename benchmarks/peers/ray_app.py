import time

import numpy as np
from ray import serve
from session import open_session, port, workers
from starlette.requests import Request


@serve.deployment(num_replicas=workers(), max_ongoing_requests=200)
class Peer:
    def __init__(self):
        self.session = open_session()

    async def __call__(self, request: Request):
        tensor = (await request.json())["inputs"][0]
        y = self.session.run(None, {"input": np.array(tensor["data"], dtype="f").reshape(tensor["shape"])})[0]
        return {"outputs": [{"name": "output", "shape": list(y.shape), "datatype": "FP32", "data": y.ravel().tolist()}]}


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": port()})
    serve.run(Peer.bind(), route_prefix="/v2/models/m/infer")
    while True:
        time.sleep(3600)
