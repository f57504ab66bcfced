import litserve as ls
import numpy as np
from session import open_session, port, workers


class Peer(ls.LitAPI):
    def setup(self, device):
        self.session = open_session()

    def decode_request(self, request):
        tensor = request["inputs"][0]
        return np.array(tensor["data"], dtype="f").reshape(tensor["shape"][1:])

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        return self.session.run(None, {"input": x})[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"outputs": [{"name": "output", "shape": [1, len(output)], "datatype": "FP32", "data": output.tolist()}]}


if __name__ == "__main__":
    api = Peer(max_batch_size=32, batch_timeout=0.001, api_path="/v2/models/m/infer")
    ls.LitServer(api, accelerator="cpu", workers_per_device=workers()).run(
        port=port(), num_api_servers=workers(), log_level="warning"
    )
