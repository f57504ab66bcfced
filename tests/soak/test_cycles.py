"""Loading and unloading, again and again: the memory of what was unloaded comes back."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.backends.graphs import save
from tests.serving import infer, serving
from tests.soak import rounds
from tests.soak.test_swaps import ADMIN, administer

FEATURES, CLASSES = 2, 4 * 2**20  # 32 MiB of weights: two that were left behind are over the bound
MOST_BYTES = 64 * 2**20


def large(folder: Path) -> None:
    weights = numpy_helper.from_array(np.ones((FEATURES, CLASSES), np.float32), "w")
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])
    given = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ReduceMax", ["h"], ["y"], axes=[1], keepdims=0),
    ]
    folder.mkdir(parents=True)
    graph = helper.make_graph(nodes, "g", [taken], [given], [weights])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")


def test_memory_returns_after_cycles_of_loading_and_unloading(tmp_path: Path) -> None:
    large(tmp_path / "models" / "m" / "1")
    question = infer("m", "x", [1.0, 2.0], shape=[1, 2])
    with serving(tmp_path, "--workers", "0", models={}, paths=[tmp_path / "models"], environ=ADMIN) as served:
        resident: list[int] = []
        for _ in range(rounds(5, 50) + 1):  # the first warms the runtime up, whose own memory stays
            assert served.ask(question).json()["outputs"][0]["data"] == [3.0]
            assert administer(served, "unload").status == 200
            resident.append(served.resident_bytes)
            assert administer(served, "load").status == 200
        assert resident[-1] - resident[0] < MOST_BYTES, [size >> 20 for size in resident]
