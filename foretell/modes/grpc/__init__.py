"""The gRPC mode: the Open Inference Protocol, health checks, and TensorFlow Serving's predictions, on the same engines."""
