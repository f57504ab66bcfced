"""What a served model is, in the words of the Open Inference Protocol: for every mode that tells clients of it."""

from dataclasses import dataclass
from typing import Any

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.tensors import Datatype, Signature, TensorSpec

PLATFORM = "foretell_pipeline"
TYPE_NAMES = {Datatype.BYTES: "STRING"}  # model configurations have names of their own: TYPE_FP32, TYPE_STRING


@dataclass(frozen=True)
class TensorMetadata:
    """``shape`` holds the row axis too; -1 is an axis of any length."""

    name: str
    datatype: str
    shape: list[int]


@dataclass(frozen=True)
class ModelMetadata:
    """The model metadata of the protocol, field by field."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def metadata(engine: Engine, catalog: Catalog) -> ModelMetadata:
    """The metadata of a model, as its pipeline's public signature tells it."""
    signature = engine.pipeline.signature
    return ModelMetadata(
        engine.name,
        catalog.versions(engine.name),
        PLATFORM,
        [_tensor(spec, signature) for spec in signature.inputs],
        [_tensor(spec, signature) for spec in signature.outputs],
    )


def config(engine: Engine, catalog: Catalog) -> dict[str, Any]:
    """The model configuration, in the form that clients of Triton's extension read: JSON-ready, names as there."""
    signature = engine.pipeline.signature
    wait_us = round(engine.settings.max_wait_s * 1e6)
    return {
        "name": engine.name,
        "platform": PLATFORM,
        "backend": "foretell",
        "max_batch_size": engine.settings.max_batch_rows if signature.rows else 0,
        "input": [_config_tensor(spec) for spec in signature.inputs],
        "output": [_config_tensor(spec) for spec in signature.outputs],
        "dynamic_batching": {"max_queue_delay_microseconds": wait_us},
        "version_policy": {"specific": {"versions": [int(version) for version in catalog.versions(engine.name)]}},
    }


def _tensor(spec: TensorSpec, signature: Signature) -> TensorMetadata:
    shape = [-1 if size is None else size for size in spec.shape]
    return TensorMetadata(spec.name, str(spec.dtype), [-1, *shape] if signature.rows else shape)


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    name = TYPE_NAMES.get(spec.dtype, str(spec.dtype))
    return {
        "name": spec.name,
        "data_type": f"TYPE_{name}",
        "dims": [-1 if size is None else size for size in spec.shape] or [1],
    }
