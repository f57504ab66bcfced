import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from session import open_session, port, workers

SESSION = open_session()


@batch
def infer(input):
    return {"output": SESSION.run(None, {"input": input})[0]}


def shape(node):
    return tuple(-1 if isinstance(size, str) else size for size in node.shape[1:])


with Triton(config=TritonConfig(http_port=port(), grpc_port=port() + 1, metrics_port=port() + 2)) as triton:
    triton.bind(
        model_name="m",
        infer_func=[infer] * workers(),
        inputs=[Tensor(name="input", dtype=np.float32, shape=shape(SESSION.get_inputs()[0]))],
        outputs=[Tensor(name="output", dtype=np.float32, shape=shape(SESSION.get_outputs()[0]))],
        config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
    )
    triton.serve()
