import msgspec
import numpy as np
from mosec import Server, Worker
from session import open_session, workers


class Peer(Worker):
    def __init__(self):
        super().__init__()
        self.session = open_session()

    def deserialize(self, body):
        return msgspec.json.decode(body)

    def forward(self, requests):
        x = np.array([r["inputs"][0]["data"] for r in requests], dtype="f").reshape(
            len(requests), *requests[0]["inputs"][0]["shape"][1:]
        )
        rows = self.session.run(None, {"input": x})[0]
        return [
            {"model_name": "m", "outputs": [{"name": "output", "shape": [1, len(r)], "datatype": "FP32", "data": r.tolist()}]}
            for r in rows
        ]

    def serialize(self, answer):
        return msgspec.json.encode(answer)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Peer, num=workers(), max_batch_size=32, max_wait_time=1)
    server.run()
