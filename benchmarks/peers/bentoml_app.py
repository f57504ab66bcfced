import bentoml
import numpy as np
from session import open_session, workers


@bentoml.service(workers=workers(), traffic={"max_concurrency": 1000})
class Peer:
    def __init__(self):
        self.session = open_session()

    @bentoml.api(route="/v2/models/m/infer")
    async def infer(self, inputs: list[dict]) -> dict:
        x = np.array(inputs[0]["data"], dtype="f").reshape(inputs[0]["shape"])
        y = self.session.run(None, {"input": x})[0]
        return {"outputs": [{"name": "output", "shape": list(y.shape), "datatype": "FP32", "data": y.ravel().tolist()}]}
