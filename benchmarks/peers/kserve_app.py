import logging
import os

from kserve import InferOutput, InferResponse, Model, ModelServer
from session import open_session, port, workers


class Peer(Model):
    def __init__(self):
        super().__init__("m")
        self.session = None  # opened by the first request: it cannot be sent to the processes of several workers
        self.ready = True

    def predict(self, payload, headers=None, **_):
        if self.session is None:
            self.session = open_session()
        y = self.session.run(None, {"input": payload.inputs[0].as_numpy()})[0]
        output = InferOutput("output", list(y.shape), "FP32")
        output.set_data_from_numpy(y, binary_data=False)
        return InferResponse("1", "m", [output])


if __name__ == "__main__":
    logging.disable(logging.INFO)  # a line for each request, and two for its times
    ModelServer(
        http_port=port(),
        grpc_port=int(os.environ["GRPC_PORT"]),
        workers=workers(),
        enable_latency_logging=False,
        access_log_format=None,
    ).start([Peer()])
