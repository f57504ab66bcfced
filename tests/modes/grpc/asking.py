"""Asking a server by its bare methods, so that what is sent and answered is seen whole."""

from typing import Any, NamedTuple

import grpc
import numpy as np

from foretell.elements import write_elements
from foretell.modes.grpc.stubs import inference_pb2 as messages
from foretell.tensors import Array, Datatype

INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
Channel = Any
"""A grpc.Channel, whose types do not foresee methods that are called with plain bytes."""

Tensor = messages.ModelInferRequest.InferInputTensor


class Refused(NamedTuple):
    """How a call was refused."""

    status: grpc.StatusCode
    sentence: str
    code: str | None
    metadata: dict[str, str | bytes]


def ask(channel: Channel, method: str, body: bytes, timeout_s: float | None = 10, **options: Any) -> bytes | Refused:
    """The bytes of an answer, or the refusal."""
    try:
        answer: bytes = channel.unary_unary(method)(body, timeout=timeout_s, **options)
    except grpc.RpcError as error:
        call: Any = error
        metadata = dict(call.trailing_metadata() or ())
        return Refused(call.code(), call.details(), metadata.get("foretell-code"), metadata)
    return answer


def refused(channel: Channel, method: str, body: bytes, **options: Any) -> Refused:
    """The refusal of a call that must be refused."""
    answer = ask(channel, method, body, **options)
    assert isinstance(answer, Refused), answer
    return answer


def infer_message(model: str, array: Array, name: str = "x", **more: Any) -> messages.ModelInferRequest:
    """A request with one raw input."""
    tensor = Tensor(name=name, datatype=str(Datatype.of(array.dtype)), shape=array.shape)
    return messages.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[write_elements(array)], **more)


def double(x: float = 1.0, **more: Any) -> bytes:
    """A good request to the quick model: the answer to ``x`` is ``2 x + 1`` and ``x + 2``."""
    return infer_message("double", np.array([[x, 2]], np.float32), **more).SerializeToString()


def sleep(seconds: float, **more: Any) -> bytes:
    """A good request to the model that sleeps in its thread."""
    return infer_message("slow", np.array([seconds], np.float32), "seconds", **more).SerializeToString()
