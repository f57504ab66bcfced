"""The session alone in a loop, on one thread of one process: what no server over the same session can exceed by much.

    python benchmarks/alone.py model.onnx SECONDS ROWS

Prints rows a second.
"""

import sys
import time

import numpy as np
import onnxruntime


def main() -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    rows = np.random.default_rng(0).random((int(sys.argv[3]), *given.shape[1:]), dtype=np.float32)
    session.run(None, {given.name: rows})
    done, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < float(sys.argv[2]):
        session.run(None, {given.name: rows})
        done += len(rows)
    print(done / took)


if __name__ == "__main__":
    main()
