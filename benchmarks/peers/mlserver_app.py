"""Writes MLServer's settings for this run beside its model, and becomes the server."""

import json
import os
from pathlib import Path

from session import port, workers

folder = Path(os.environ["MODEL"]).parent / "mlserver"
folder.mkdir(exist_ok=True)
settings = {
    "debug": False,
    "host": "127.0.0.1",
    "http_port": port(),
    "grpc_port": int(os.environ["GRPC_PORT"]),
    "metrics_port": port() + 2,
    "parallel_workers": 0 if workers() == 1 else workers(),
}
model = {"name": "m", "implementation": "mlserver_model.Peer", "max_batch_size": 32, "max_batch_time": 0.001}
(folder / "settings.json").write_text(json.dumps(settings))
(folder / "model-settings.json").write_text(json.dumps(model))
os.execvp("mlserver", ["mlserver", "start", str(folder)])
