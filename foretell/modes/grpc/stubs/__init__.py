"""The messages of the protocols, generated from the .proto files beside by `make stubs`; only pool.py is written by hand."""
