"""Our messages are those that clients have: the same names, numbers and types, in a pool that clashes with nobody's."""

from collections.abc import Iterator

import pytest
import tritonclient.grpc.model_config_pb2 as triton_config
import tritonclient.grpc.service_pb2 as triton
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from foretell.assemble import Service
from foretell.modes.grpc.server import GrpcServer
from foretell.modes.grpc.stubs import health_pb2, inference_pb2, model_config_pb2, tensorflow_serving_pb2
from foretell.settings import Settings

TRITON = {**triton.DESCRIPTOR.message_types_by_name, **triton_config.DESCRIPTOR.message_types_by_name}
OURS = {**inference_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}


def shape(field: FieldDescriptor) -> tuple[object, ...]:
    """What must be the same for the bytes to be the same."""
    kind = field.message_type or field.enum_type
    return field.name, field.number, field.type, field.is_repeated, kind.full_name if kind else None


def with_nested(message: Descriptor) -> Iterator[Descriptor]:
    yield message
    for inner in message.nested_types:
        yield from with_nested(inner)


@pytest.mark.parametrize("name", OURS)
def test_every_message_is_as_tritons_client_has_it(name: str) -> None:
    theirs = {message.full_name: message for message in with_nested(TRITON[name])}
    for message in with_nested(OURS[name]):
        known = {shape(field) for field in theirs[message.full_name].fields}
        assert {shape(field) for field in message.fields} <= known


def test_infer_messages_have_every_field() -> None:
    for name in (
        "ModelInferRequest",
        "ModelInferResponse",
        "ModelStreamInferResponse",
        "InferParameter",
        "InferTensorContents",
    ):
        assert {field.name for field in OURS[name].fields} == {field.name for field in TRITON[name].fields}


def test_datatypes_have_tritons_numbers() -> None:
    ours = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name
    theirs = triton_config.DESCRIPTOR.enum_types_by_name["DataType"].values_by_name
    assert {name: value.number for name, value in ours.items()} == {name: value.number for name, value in theirs.items()}


def test_the_processes_own_pool_is_left_alone() -> None:
    for message in (health_pb2.HealthCheckRequest, tensorflow_serving_pb2.PredictRequest):
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindMessageTypeByName(message.DESCRIPTOR.full_name)


def test_every_method_of_the_services_has_a_handler() -> None:
    service = Service(Settings())
    handlers = GrpcServer(service.catalog, service.loader, service.metrics.statistics, Settings()).services
    described = {
        each.full_name: {method.name for method in each.methods}
        for stubs in (inference_pb2, health_pb2, tensorflow_serving_pb2)
        for each in stubs.DESCRIPTOR.services_by_name.values()
    }
    assert {name: set(methods) for name, methods in handlers.items()} == described
