"""Runs one pipeline for many callers: queue, batcher, placement; and the catalog of engines that are being served."""
