"""A pool of our own for the generated messages: the same names in the process's own pool, as clients bring them, do not clash.

The generated files ask it as they would ask ``google.protobuf.descriptor_pool``.
"""

from functools import cache

from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.descriptor_pool import DescriptorPool


@cache
def Default() -> DescriptorPool:  # noqa: N802 - the name that the generated files call
    """The one pool of these stubs, with what the .proto files import."""
    pool = DescriptorPool()
    for imported in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(imported.DESCRIPTOR.serialized_pb)
    return pool
