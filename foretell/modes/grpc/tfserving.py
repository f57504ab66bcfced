"""``tensorflow.serving.PredictionService``: Predict and GetModelMetadata, as clients of TensorFlow Serving call them.

https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/prediction_service.proto
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.errors import ForetellError, Invalid
from foretell.modes.grpc.calls import Context, Metadata, caller_of, key_of, marks_of, parse_guarded, simple, unary
from foretell.modes.grpc.guard import SMALL_BYTES, Tree
from foretell.modes.grpc.stubs import tensorflow_pb2 as tf
from foretell.modes.grpc.stubs import tensorflow_serving_pb2 as messages
from foretell.modes.grpc.tensorproto import TYPES, read_tensor, write_tensor
from foretell.request import Request
from foretell.settings import Settings
from foretell.tensors import Arrays, TensorSpec

SERVICE = "tensorflow.serving.PredictionService"
PARTS: Tree = {2: {2: {2: {}}}, 3: {}}
"""Where a predict message may hold many small ones: inputs, their tensors, the shapes of those; and requested outputs."""

_METHOD = "tensorflow/serving/predict"
_SIGNATURE = "serving_default"
_SIGNATURES = ("", _SIGNATURE, _METHOD)
_SIGNATURE_DEF = "signature_def"


class PredictionService:
    """The methods of the service."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog = catalog
        self.total_s = settings.timeouts.total_s
        self.caller_header = settings.http.caller_header.lower()

    def methods(self) -> dict[str, Any]:
        """The handler of each method, by name."""
        return {
            "Predict": unary(self.predict),
            "GetModelMetadata": simple(messages.GetModelMetadataRequest, self.metadata),
        }

    async def predict(self, body: bytes, context: Context, metadata: Metadata) -> bytes:
        """Predict: the way of one request. Cancelled, it takes its work back."""
        received = time.monotonic()
        message = await parse_guarded(messages.PredictRequest, body, PARTS)
        self.catalog.call(message.model_spec.name)
        engine = self._picked(message.model_spec, metadata)
        left_s = context.time_remaining()
        deadline = received + (self.total_s if left_s is None else min(left_s, self.total_s))
        try:
            if len(body) > SMALL_BYTES:
                request = await asyncio.to_thread(_read, message, engine, received, deadline)
            else:
                request = _read(message, engine, received, deadline)
        except ForetellError as error:
            engine.refuse(Request({}, received, mode="grpc", marks=marks_of(metadata)), error)
            raise
        request.marks = marks_of(metadata)
        request.caller = caller_of(context, metadata, self.caller_header)
        outputs = await engine.infer(request)
        if sum([array.nbytes for array in outputs.values()]) > SMALL_BYTES:
            return await asyncio.to_thread(_write, engine, request, outputs)
        return _write(engine, request, outputs)

    def metadata(self, request: messages.GetModelMetadataRequest) -> messages.GetModelMetadataResponse:
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                text = f"there is no metadata {field[:80]!r}: ask for {_SIGNATURE_DEF!r}"
                raise Invalid("unknown_parameter", text, parameter="metadata_field", expected=_SIGNATURE_DEF, got=field[:80])
        engine = self._engine(request.model_spec)
        signature = engine.pipeline.signature
        described = tf.SignatureDef(
            inputs=_infos(signature.inputs, rows=signature.rows),
            outputs=_infos(signature.outputs, rows=signature.rows),
            method_name=_METHOD,
        )
        told = messages.GetModelMetadataResponse(model_spec=_spec(engine))
        told.metadata[_SIGNATURE_DEF].Pack(messages.SignatureDefMap(signature_def={_SIGNATURE: described}))
        return told

    def _picked(self, spec: messages.ModelSpec, metadata: Metadata) -> Engine:
        traffic = None if spec.HasField("version") or spec.version_label else self.catalog.traffic(spec.name)
        return self._engine(spec) if traffic is None else self.catalog.pick(spec.name, key_of(metadata, traffic))

    def _engine(self, spec: messages.ModelSpec) -> Engine:
        version = str(spec.version.value) if spec.HasField("version") else None
        return self.catalog.find(spec.name, version, spec.version_label or None)


def _read(message: messages.PredictRequest, engine: Engine, received: float, deadline: float) -> Request:
    name = message.model_spec.signature_name
    if name not in _SIGNATURES:
        text = f"there is no signature {name[:80]!r}: leave out signature_name, or send {_SIGNATURE!r}"
        raise Invalid("unknown_parameter", text, parameter="signature_name", expected=_SIGNATURE, got=name[:80])
    signature = engine.pipeline.signature
    outputs = [spec.name for spec in signature.outputs]
    for asked in message.output_filter:
        if asked not in outputs:
            text = f"there is no output {asked[:80]!r}: the model gives {', '.join(outputs)}"
            raise Invalid("unknown_output", text, output=asked[:80], expected=outputs)
    known = {spec.name for spec in signature.inputs}
    unknown = next((sent for sent in message.inputs if sent not in known), None)
    if unknown is not None:
        text = f"there is no input {unknown[:80]!r}: the model takes {', '.join(known)}"
        raise Invalid("unknown_input", text, input=unknown[:80], expected=sorted(known))
    inputs = {sent: read_tensor(tensor, sent) for sent, tensor in message.inputs.items()}
    return Request(inputs, received, deadline, None, "grpc", outputs=tuple(dict.fromkeys(message.output_filter)))


def _write(engine: Engine, request: Request, outputs: Arrays) -> bytes:
    tensors = {name: write_tensor(outputs[name]) for name in request.outputs or outputs}
    return messages.PredictResponse(model_spec=_spec(engine), outputs=tensors).SerializeToString()


def _spec(engine: Engine) -> messages.ModelSpec:
    spec = messages.ModelSpec(name=engine.name, signature_name=_SIGNATURE)
    spec.version.value = int(engine.version)
    return spec


def _infos(specs: Sequence[TensorSpec], *, rows: bool) -> dict[str, tf.TensorInfo]:
    infos = {}
    for spec in specs:
        sizes = [*([None] if rows else []), *spec.shape]
        dims = [tf.TensorShapeProto.Dim(size=-1 if size is None else size) for size in sizes]
        shape = tf.TensorShapeProto(dim=dims)
        infos[spec.name] = tf.TensorInfo(name=f"{spec.name}:0", dtype=TYPES[spec.dtype], tensor_shape=shape)
    return infos
