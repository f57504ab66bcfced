"""TensorFlow's tensors as arrays, and back.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/tensor.proto
"""

from math import prod

import numpy as np

from foretell.elements import read_elements
from foretell.errors import Invalid
from foretell.modes.grpc.stubs import tensorflow_pb2 as tf
from foretell.modes.grpc.tensors import check_shape
from foretell.tensors import Array, Datatype, cast, show_shape

TYPES: dict[Datatype, tf.DataType] = {
    Datatype.BOOL: tf.DT_BOOL,
    Datatype.UINT8: tf.DT_UINT8,
    Datatype.UINT16: tf.DT_UINT16,
    Datatype.UINT32: tf.DT_UINT32,
    Datatype.UINT64: tf.DT_UINT64,
    Datatype.INT8: tf.DT_INT8,
    Datatype.INT16: tf.DT_INT16,
    Datatype.INT32: tf.DT_INT32,
    Datatype.INT64: tf.DT_INT64,
    Datatype.FP16: tf.DT_HALF,
    Datatype.BF16: tf.DT_BFLOAT16,
    Datatype.FP32: tf.DT_FLOAT,
    Datatype.FP64: tf.DT_DOUBLE,
    Datatype.BYTES: tf.DT_STRING,
}
_DATATYPES = {number: datatype for datatype, number in TYPES.items()}
_HALVES = (Datatype.FP16, Datatype.BF16)
_VALUES: dict[Datatype, tuple[str, Datatype]] = {
    # datatype: the field that holds its values, and the datatype of that field
    Datatype.BOOL: ("bool_val", Datatype.BOOL),
    Datatype.UINT8: ("int_val", Datatype.INT32),
    Datatype.UINT16: ("int_val", Datatype.INT32),
    Datatype.UINT32: ("uint32_val", Datatype.UINT32),
    Datatype.UINT64: ("uint64_val", Datatype.UINT64),
    Datatype.INT8: ("int_val", Datatype.INT32),
    Datatype.INT16: ("int_val", Datatype.INT32),
    Datatype.INT32: ("int_val", Datatype.INT32),
    Datatype.INT64: ("int64_val", Datatype.INT64),
    Datatype.FP16: ("half_val", Datatype.INT32),
    Datatype.BF16: ("half_val", Datatype.INT32),
    Datatype.FP32: ("float_val", Datatype.FP32),
    Datatype.FP64: ("double_val", Datatype.FP64),
    Datatype.BYTES: ("string_val", Datatype.BYTES),
}


def read_tensor(tensor: tf.TensorProto, name: str) -> Array:
    """A tensor with its values in ``tensor_content`` or in the field of its type. Raises Invalid."""
    shown = name[:80]
    datatype = _DATATYPES.get(tensor.dtype)
    if datatype is None:
        text = f"input {shown!r} has TensorFlow's type number {tensor.dtype}: use one of {', '.join(map(str, TYPES))}"
        raise Invalid("unknown_datatype", text, input=shown, got=tensor.dtype)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank:
        raise Invalid("wrong_shape", f"input {shown!r} has no shape: send one", input=shown)
    check_shape(shape, name)
    try:
        if tensor.tensor_content and datatype is not Datatype.BYTES:
            return read_elements(tensor.tensor_content, datatype, shape, shown)
        return _read_values(tensor, datatype, shape, shown).reshape(shape)
    except (ValueError, OverflowError) as error:  # no values in axes too long for any array: [0, 2**62]
        text = f"input {shown!r} declares the shape {show_shape(shape)[:200]}, which no array can have"
        raise Invalid("wrong_shape", text, input=shown) from error


def write_tensor(array: Array) -> tf.TensorProto:
    """A tensor with its values in the field of its type, where clients look for them."""
    datatype = Datatype.of(array.dtype)
    dims = [tf.TensorShapeProto.Dim(size=size) for size in array.shape]
    tensor = tf.TensorProto(dtype=TYPES[datatype], tensor_shape=tf.TensorShapeProto(dim=dims))
    flat = array.reshape(-1)
    if datatype in _HALVES:
        flat = np.ascontiguousarray(flat).view(np.uint16)
    values = flat.tolist()
    if datatype is Datatype.BYTES:
        values = [item if isinstance(item, bytes) else str(item).encode() for item in values]
    getattr(tensor, _VALUES[datatype][0]).extend(values)
    return tensor


def _read_values(tensor: tf.TensorProto, datatype: Datatype, shape: list[int], name: str) -> Array:
    field, held = _VALUES[datatype]
    values = getattr(tensor, field)
    if len(values) != prod(shape):
        text = f"input {name!r} declares the shape {show_shape(shape)[:200]}, but its {field} holds {len(values)} values"
        raise Invalid("wrong_shape", text, input=name, got=len(values))
    array = np.empty(len(values), held.numpy)
    array[:] = values if held is Datatype.BYTES else np.fromiter(values, held.numpy, len(values))
    if datatype in _HALVES:
        return cast(array, Datatype.UINT16, name).view(datatype.numpy)
    return cast(array, datatype, name)
