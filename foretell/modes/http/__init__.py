"""The HTTP mode: two doors (tensors and rows) and two ways in (the fast lane and ASGI) to the same engines."""
