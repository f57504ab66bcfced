"""What the gRPC mode is measured against: a grpc.aio server that parses, runs the model and answers, and no more.

python benchmarks/bare_rpc.py model.onnx PORT
"""

import sys
from typing import Any

import grpc
import numpy as np
import onnxruntime
import uvloop

from foretell.modes.grpc.stubs.inference_pb2 import ModelInferRequest, ModelInferResponse

OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1
SESSION = onnxruntime.InferenceSession(sys.argv[1], OPTIONS, providers=["CPUExecutionProvider"])


async def infer(request: ModelInferRequest, context: Any) -> ModelInferResponse:
    tensor = request.inputs[0]
    rows = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(tensor.shape)
    output = SESSION.run(None, {tensor.name: rows})[0]
    described = ModelInferResponse.InferOutputTensor(name="output", datatype="FP32", shape=output.shape)
    return ModelInferResponse(model_name="m", outputs=[described], raw_output_contents=[output.tobytes()])


async def main() -> None:
    method = grpc.unary_unary_rpc_method_handler(infer, ModelInferRequest.FromString, ModelInferResponse.SerializeToString)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method}),)
    )
    server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
