"""Inputs of ever other shapes: memory rises to what the largest takes, and stays there."""

from pathlib import Path

import numpy as np
import orjson

from tests.backends.graphs import convolution, save
from tests.serving import post, serving
from tests.soak import rounds

MOST_GROWTH_BYTES = 16 * 2**20


def image(numbers: np.random.Generator) -> bytes:
    """A request with some images of a random size, as binary tensors."""
    shape = [int(numbers.integers(1, 4)), 3, int(numbers.integers(8, 160)), int(numbers.integers(8, 160))]
    raw = np.ones(shape, np.float32).tobytes()
    described = {"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"inputs": [described]})
    body = head + raw
    request = post("/v2/models/m/infer", "", f"Inference-Header-Content-Length: {len(head)}", kind="application/octet-stream")
    return request.replace(b"content-length: 0", b"content-length: %d" % len(body)) + body


def test_random_shapes_have_a_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    save(convolution(), tmp_path / "m" / "model.onnx")
    numbers = np.random.default_rng(0)
    count = rounds(150, 3000)
    with serving(tmp_path, "--workers", "0", models={}, paths=[tmp_path / "m"]) as served, served.wire(timeout_s=60) as wire:
        resident = []
        for _ in range(3):
            for _ in range(count):
                assert wire.ask(image(numbers)).status == 200
            resident.append(served.resident_bytes)
    assert resident[-1] - resident[0] < MOST_GROWTH_BYTES, [size >> 20 for size in resident]
