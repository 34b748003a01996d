"""gRPC, which is told to be quiet before it is loaded: it writes to stderr how each connection ends, if not."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc

__all__ = ["grpc"]
