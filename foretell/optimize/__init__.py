"""Ways to make a model smaller or faster: a file or a folder each, none of which knows another."""

DISTILL = "foretell distill MODEL -o small.onnx --data ROWS teaches a small model what this one answers, whatever it is made of"
"""The cure for a model that cannot be changed itself."""
