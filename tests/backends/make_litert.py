"""Makes the LiteRT models of tests/backends/models again: ``python tests/backends/make_litert.py``, with tensorflow.

They are small nets on scikit-learn's digits, and one that looks words up, kept in the repository because LiteRT itself is
small and tensorflow, which alone can make them, is not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_breast_cancer, load_digits

FOLDER = Path(__file__).with_name("models")
PIXELS, DIGITS = load_digits(return_X_y=True)
PIXELS = (PIXELS / 16).astype(np.float32)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    net = trained()
    write("digits_float", converter(net, None))
    write("digits_fixed", converter(net, 4))
    write("digits_int8", quantized(net, tf.int8))
    write("digits_uint8_in", quantized(net, tf.uint8, tf.float32))
    write("words", words())
    write("cancer", linear())


def trained() -> Any:
    """64 pixels, 24 hidden units, 10 digits."""
    tf.keras.utils.set_random_seed(7)
    layers = [
        tf.keras.Input((64,), name="pixels"),
        tf.keras.layers.Dense(24, activation="relu"),
        tf.keras.layers.Dense(10, activation="softmax"),
    ]
    net = tf.keras.Sequential(layers)
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    net.fit(PIXELS[:1500], DIGITS[:1500], epochs=25, batch_size=32, verbose=0)
    print("accuracy", net.evaluate(PIXELS[1500:], DIGITS[1500:], verbose=0)[1])
    return net


def converter(net: Any, rows: int | None) -> Any:
    """Of the net with its weights as constants: the converter would leave out variables of layers."""
    weights = [tf.constant(each) for each in net.get_weights()]

    def serve(pixels: Any) -> Any:
        hidden = tf.nn.relu(tf.matmul(pixels, weights[0]) + weights[1])
        return {"probabilities": tf.nn.softmax(tf.matmul(hidden, weights[2]) + weights[3])}

    made = tf.function(serve, input_signature=[tf.TensorSpec((rows, 64), tf.float32, name="pixels")])
    return tf.lite.TFLiteConverter.from_concrete_functions([made.get_concrete_function()], tf.Module())


def quantized(net: Any, inputs: Any, outputs: Any = None) -> Any:
    """Integers throughout, scaled by what 200 rows need."""

    def samples() -> Iterator[list[Any]]:
        for row in PIXELS[:200]:
            yield [row[np.newaxis]]

    made = converter(net, None)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.representative_dataset = samples
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    made.inference_input_type, made.inference_output_type = inputs, outputs or inputs
    return made


def linear() -> Any:
    """30 features, scaled, and two classes apart by the difference of their means."""
    features, labels = load_breast_cancer(return_X_y=True)
    mean, spread = features.mean(axis=0).astype(np.float32), features.std(axis=0).astype(np.float32)
    scaled = (features - mean) / spread
    apart = (scaled[labels == 1].mean(axis=0) - scaled[labels == 0].mean(axis=0)).astype(np.float32) / 4

    def serve(rows: Any) -> Any:
        score = tf.matmul((rows - mean) / spread, apart[:, np.newaxis])
        return {"score": score, "benign": tf.sigmoid(score)}

    made = tf.function(serve, input_signature=[tf.TensorSpec((None, 30), tf.float32, name="features")])
    return tf.lite.TFLiteConverter.from_concrete_functions([made.get_concrete_function()], tf.Module())


def words() -> Any:
    """Texts in, the number of each known word out."""
    entries = tf.lookup.KeyValueTensorInitializer(["one", "two", "drei"], tf.constant([1, 2, 3], tf.int64))
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(entries, -1)

    def serve(word: Any) -> Any:
        return {"number": module.table.lookup(word), "again": tf.reshape(word, (-1, 1))}

    made = tf.function(serve, input_signature=[tf.TensorSpec((None,), tf.string, name="word")])
    return tf.lite.TFLiteConverter.from_concrete_functions([made.get_concrete_function()], module)


def write(name: str, made: Any) -> None:
    content = made.convert()
    (FOLDER / f"{name}.tflite").write_bytes(content)
    print(name, len(content), "bytes")


if __name__ == "__main__":
    main()
