"""Modes: each a way of carrying rows to a pipeline and bringing answers back. One folder each; none knows a neighbour."""
