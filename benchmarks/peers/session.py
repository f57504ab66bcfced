"""What every peer shares: one single-threaded onnxruntime session over $MODEL, $PORT and the number of $WORKERS."""

import os

import onnxruntime as ort


def open_session():
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])


def port():
    return int(os.environ["PORT"])


def workers():
    return int(os.environ["WORKERS"])
