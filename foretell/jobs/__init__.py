"""Durable work: jobs that are kept in a store until somebody has done them, and their results until nobody wants them."""
